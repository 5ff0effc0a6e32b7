#include "simulator/cases/harness.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fsv::test {

std::vector<sim::Options> schedules() {
  std::vector<sim::Options> all = sim::check::schedules();
  for (sim::Options& options : all) options.count = options.schedule == sim::Schedule::order;
  return all;
}

bool sound(const sim::Report& report, const std::string& what) {
  if (!sim::check::ok(report, what)) return false;
  for (const auto& [where, count] : report.shared) {
    if (count.units <= count.least) continue;
    sim::check::fail("values", "%s: %llu wavefronts for %llu at %s", what.c_str(),
                     static_cast<unsigned long long>(count.units),
                     static_cast<unsigned long long>(count.least), where.c_str());
    return false;
  }
  return true;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  sim::check::checks++;
  if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0) return true;
  sim::check::fail("values", "%s: other bits", what.c_str());
  return false;
}

template bool same_bits(const std::vector<float>&, const std::vector<float>&, const std::string&);
template bool same_bits(const std::vector<Bf16>&, const std::vector<Bf16>&, const std::string&);
template bool same_bits(const std::vector<uint8_t>&, const std::vector<uint8_t>&, const std::string&);

template <class T>
bool accurate(const std::vector<T>& out, const std::vector<double>& truth, const std::vector<float>& plain,
              const std::string& what) {
  sim::check::checks++;
  double largest = 0, allowed = 0, squares = 0, allowed_squares = 0, magnitude = 0;
  for (size_t i = 0; i < truth.size(); i++) {
    const double ours = std::fabs(to_float(out[i]) - truth[i]), theirs = std::fabs(plain[i] - truth[i]);
    const double error = ours == ours ? ours : INFINITY;
    largest = std::max(largest, error), allowed = std::max(allowed, theirs);
    squares += error * error, allowed_squares += theirs * theirs;
    magnitude = std::max(magnitude, std::fabs(truth[i]));
  }
  const double n = static_cast<double>(std::max<size_t>(truth.size(), 1)), unit = magnitude * 0x1p-23;
  const double mean = std::sqrt(squares / n), allowed_mean = std::sqrt(allowed_squares / n);
  if (largest <= 2 * allowed + unit && mean <= 2 * allowed_mean + unit) return true;
  sim::check::fail("values", "%s: error %.3g (rms %.3g), plain %.3g (rms %.3g)", what.c_str(), largest, mean,
                   allowed, allowed_mean);
  return false;
}

template bool accurate(const std::vector<float>&, const std::vector<double>&, const std::vector<float>&,
                       const std::string&);
template bool accurate(const std::vector<Bf16>&, const std::vector<double>&, const std::vector<float>&,
                       const std::string&);

double activate(Activation kind, double x) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

}  // namespace fsv::test
