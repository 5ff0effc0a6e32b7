// An op's operands in a few words, for traces: "[1, 1860, 5120] x [5120, 5120] bf16 -> [1, 1860, 5120] bf16".
#pragma once

#include <string>

#include "ops/ops.h"

namespace fsv {

/// Those of its operands that decide how long it takes, and its result.
template <class Args>
std::string describe_operands(const Args& args, const TensorSpec& out) {
  std::string text;
  const auto add = [&text](const TensorView& view, int times = 1) {
    if (!view) return;
    if (!text.empty()) text += " x ";
    if (times > 1) text += std::to_string(times) + " ";
    text += view.shape.text();
    text += ' ';
    text += name_of(view.dtype);
  };
  if constexpr (requires { args.states; }) add(args.states[0], args.count);
  if constexpr (requires { args.terms; }) add(args.terms[0], args.count);
  if constexpr (requires { args.parts; }) add(args.parts[0], args.count);
  if constexpr (requires { args.x; }) add(args.x);
  if constexpr (requires { args.qkv; }) add(args.qkv);
  if constexpr (requires { args.q; }) add(args.q);
  if constexpr (requires { args.k; }) add(args.k);
  if constexpr (requires { args.table; }) add(args.table);
  if constexpr (requires { args.ids; }) add(args.ids);
  if constexpr (requires { args.before; }) add(args.before);
  if constexpr (requires { args.weight; }) add(args.weight);
  if (!text.empty()) text += " -> ";
  text += out.shape.text();
  text += ' ';
  text += name_of(out.dtype);
  return text;
}

}  // namespace fsv
