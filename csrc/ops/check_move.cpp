// The contracts of the ops that only move elements.
#include "ops/contract.h"

namespace fsv {

TensorSpec check(const ConcatArgs& a) {
  const Contract op("concat");
  op.range("count", a.count, 1, kMaxStates);
  op.operand("parts[0]", a.parts[0], "[N, ...]", kAnyDType);
  op.range("axis", a.axis, 0, a.parts[0].shape.rank - 1);
  Shape y = a.parts[0].shape;
  for (int i = 1; i < a.count; i++) {
    const TensorView& part = a.parts[i];
    Shape expected = a.parts[0].shape;
    if (part.shape.rank == expected.rank) expected[a.axis] = part.shape[a.axis];
    if (!(part.given && part.layout == Layout::plain && part.dtype == a.parts[0].dtype &&
          part.shape == expected))
      op.require(false, text("parts[", i, "]").c_str(), part, a.parts[0], " but for the size of axis ",
                 a.axis);
    y[a.axis] += part.shape[a.axis];
  }
  return op.result(a.parts[0].dtype, y);
}

TensorSpec check(const SliceArgs& a) {
  const Contract op("slice");
  op.operand("x", a.x, "[N, ...]", kAnyDType);
  op.range("axis", a.axis, 0, a.x.shape.rank - 1);
  op.range("end", a.end, 0, a.x.shape[a.axis]);
  op.range("start", a.start, 0, a.end);
  Shape y = a.x.shape;
  y[a.axis] = a.end - a.start;
  return op.result(a.x.dtype, y);
}

TensorSpec check(const PermuteArgs& a) {
  const Contract op("permute");
  op.operand("x", a.x, "[...]", kAnyDType);
  Shape y = a.x.shape;
  unsigned seen = 0;
  for (int i = 0; i < y.rank; i++) {
    const int from = a.order[i];
    op.range("order", from, 0, y.rank - 1);
    op.require((seen >> from & 1) == 0, "order", text("axis ", from, " twice"), "every axis once");
    seen |= 1u << from;
    y[i] = a.x.shape[from];
  }
  return op.result(a.x.dtype, y);
}

TensorSpec check(const EmbeddingArgs& a) {
  const Contract op("embedding");
  op.operand("table", a.table, "[V, C]", kFloats);
  op.operand("ids", a.ids, "[...]", DType::i32);
  op.require(a.ids.shape.rank < kMaxRank, "ids", a.ids, "at most ", kMaxRank - 1, " dimensions");
  Shape y = a.ids.shape;
  y.rank++;
  y[-1] = a.table.shape[1];
  return op.result(a.table.dtype, y);
}

}  // namespace fsv
