#include "simulator/cases/attention_case.h"

#include <random>

namespace fsv::test {

std::string AttentionCase::text() const {
  std::string s = "[" + std::to_string(batch) + ", " + std::to_string(heads) + ", " +
                  std::to_string(queries) + ", " + std::to_string(keys) + ", " + std::to_string(dim) + "]";
  for (size_t i = 0; i < lengths.size(); i++) s += (i ? " " : " lengths ") + std::to_string(lengths[i]);
  return s + (bias ? hidden ? " hiding bias" : " bias" : "");
}

template <class T>
AttentionData<T>::AttentionData(const AttentionCase& a, unsigned seed) : c(a) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const size_t nq = size_t(c.batch) * c.queries * c.heads * c.dim,
               nk = size_t(c.batch) * c.keys * c.heads * c.dim;
  const float shift = std::sqrt(8 / std::sqrt(static_cast<float>(c.dim)) / std::fabs(c.strength));
  q.resize(nq), k.resize(nk), v.resize(nk);
  for (float& x : q) x = stored(normal(random) + shift);
  for (float& x : k) x = stored(normal(random) - std::copysign(shift, c.strength));
  for (float& x : v) x = stored(normal(random));
  for (int b = 0; b < c.batch; b++)
    for (size_t i = c.row(b, c.length(b), 0, c.keys); i < c.row(b + 1, 0, 0, c.keys); i++) k[i] = v[i] = NAN;
  if (c.bias) {
    bias.resize(size_t(c.heads) * c.queries * c.keys);
    for (size_t i = 0; i < bias.size(); i++) {
      bias[i] = 2 * normal(random);
      const bool first_row = i / c.keys % c.queries == 0, first_block = int(i % c.keys) < c.keys - 1;
      if (c.hidden && (bias[i] < -2 || first_row || (i / c.keys % c.queries == 1 && first_block)))
        bias[i] = -INFINITY;
      if (c.hidden && i / c.keys % c.queries == 1 && !first_block) bias[i] = 0;
    }
  }
  truth.resize(nq), plain.resize(nq);
  attend<double>(truth, false);
  attend<float>(plain, true);
}

template <class T>
template <class Real>
void AttentionData<T>::attend(std::vector<Real>& out, bool rounded) const {
  std::vector<Real> p(c.keys);
  for (int b = 0; b < c.batch; b++)
    for (int i = 0; i < c.queries; i++)
      for (int h = 0; h < c.heads; h++) {
        Real top = -INFINITY, total = 0;
        for (int j = 0; j < c.length(b); j++) {
          Real s = 0;
          for (int d = 0; d < c.dim; d++)
            s += Real(q[c.row(b, i, h, c.queries) + d]) * k[c.row(b, j, h, c.keys) + d];
          p[j] = s * c.scale() + (c.bias ? bias[(size_t(h) * c.queries + i) * c.keys + j] : 0);
          top = std::max(top, p[j]);
        }
        for (int j = 0; j < c.length(b); j++) total += p[j] = top == -INFINITY ? 0 : std::exp(p[j] - top);
        for (int d = 0; d < c.dim; d++) {
          Real sum = 0;
          for (int j = 0; j < c.length(b); j++)
            sum += (rounded && kBf16 ? Real(round_bf16(float(p[j]))) : p[j]) * v[c.row(b, j, h, c.keys) + d];
          out[c.row(b, i, h, c.queries) + d] = total > 0 ? sum / total : 0;
          if (rounded) out[c.row(b, i, h, c.queries) + d] = stored(float(out[c.row(b, i, h, c.queries) + d]));
        }
      }
}

template <class T>
std::vector<T> AttentionData<T>::store(const std::vector<float>& values) {
  std::vector<T> stored(values.size());
  for (size_t i = 0; i < values.size(); i++) stored[i] = from_float<T>(values[i]);
  return stored;
}

template <class T>
AttentionData<T> AttentionData<T>::part(int b, int first, int count) const {
  AttentionData data;
  data.c = c;
  data.c.batch = 1, data.c.queries = count;
  if (!c.lengths.empty()) data.c.lengths = {c.lengths[b]};
  data.k = slice(k, c.row(b, 0, 0, c.keys), c.row(b + 1, 0, 0, c.keys));
  data.v = slice(v, c.row(b, 0, 0, c.keys), c.row(b + 1, 0, 0, c.keys));
  data.q = rows(q, b, first, count);
  data.truth = rows(truth, b, first, count);
  data.plain = rows(plain, b, first, count);
  for (int h = 0; c.bias && h < c.heads; h++)
    for (size_t i = 0; i < size_t(count) * c.keys; i++)
      data.bias.push_back(bias[(size_t(h) * c.queries + first) * c.keys + i]);
  return data;
}

template <class T>
AttentionMemory<T>::AttentionMemory(const AttentionData<T>& data)
    : c(data.c),
      q(data.store(data.q)),
      k(data.store(data.k)),
      v(data.store(data.v)),
      out(data.q.size()),
      bias(data.bias),
      lengths(c.lengths) {}

template <class T>
cuda::kernels::AttentionProblem AttentionMemory<T>::problem(int queries_of_tile) {
  cuda::kernels::AttentionProblem p;
  p.queries = c.queries, p.keys = c.keys, p.heads = c.heads, p.dim = c.dim;
  p.query_tiles = (c.queries + queries_of_tile - 1) / queries_of_tile;
  p.tiles = p.query_tiles * c.heads * c.batch;
  p.scale = c.scale();
  if (c.bias) p.bias = bias.ptr();
  if (!c.lengths.empty()) p.key_lengths = lengths.ptr();
  return p;
}

template <class T>
bool AttentionMemory<T>::check(const sim::Report& report, const AttentionData<T>& data, int queries_of_tile,
                               const std::string& what, uint64_t passes) {
  if (!sound(report, what) || !accurate(result(), data.truth, data.plain, what)) return false;
  const uint64_t tiles = (c.queries + queries_of_tile - 1) / queries_of_tile;
  const uint64_t others =
      (c.bias ? bias.size() * c.batch : 0) + (c.lengths.empty() ? 0 : tiles * c.heads * c.batch * 1024);
  const uint64_t reads = passes * (q.size() + tiles * 2 * k.size()) * sizeof(T) + others * 4;
  if (report.global_read <= reads && report.global_written == out.size() * sizeof(T)) return true;
  sim::check::fail("values", "%s: %llu bytes read of %llu, %llu written of %llu", what.c_str(),
                   static_cast<unsigned long long>(report.global_read),
                   static_cast<unsigned long long>(reads),
                   static_cast<unsigned long long>(report.global_written),
                   static_cast<unsigned long long>(out.size() * sizeof(T)));
  return false;
}

template struct AttentionData<Bf16>;
template struct AttentionData<float>;
template struct AttentionMemory<Bf16>;
template struct AttentionMemory<float>;

}  // namespace fsv::test
