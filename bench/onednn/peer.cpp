// The peer of our matrix kernels: the same shapes through oneDNN (libdnnl 2.x, as Debian ships it), weights
// in the layout it likes best and reordered before the clock starts, as ours are packed at load. One JSON
// line a case:
//   {"case":"matmul bf16
//   2048x4096x1024","medianMs":..,"p10Ms":..,"p90Ms":..,"reps":..,"flops":..,"implementation":".."}
// A case is `matmul:DTYPE:MxNxK` or `conv:DTYPE:BxTxHxWxC:OxKTxKHxKW[:PTxPHxPW]` (channels-last; stride 1;
// padding zeros on both sides, by default what keeps the size), DTYPE f32 or bf16. `--seconds S` is spent on
// each (1 if not given); `--rotate BYTES` makes as many copies of the arguments as fill them, which take
// turns, so that no cache holds them. Threads: OMP_NUM_THREADS, which the caller sets to FSVIDEO_THREADS.
//   g++ -O2 -std=c++17 -fopenmp peer.cpp -ldnnl -o peer
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using dnnl::memory;
using Dims = memory::dims;
using Arguments = std::unordered_map<int, memory>;

const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
dnnl::stream stream(engine);

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

Dims dims_of(const std::string& text, size_t count) {
  Dims dims;
  for (const std::string& part : split(text, 'x')) dims.push_back(std::stoll(part));
  if (dims.size() != count)
    throw std::invalid_argument(text + ": " + std::to_string(count) + " sizes expected");
  return dims;
}

/// Memory of a described layout, filled with small numbers: denormals or zeros would flatter or slow the
/// peer.
memory filled(const memory::desc& desc, const Dims& dims, memory::format_tag tag) {
  memory plain({dims, memory::data_type::f32, tag}, engine);
  float* values = static_cast<float*>(plain.get_data_handle());
  const size_t count = plain.get_desc().get_size() / sizeof(float);
  for (size_t i = 0; i < count; i++)
    values[i] = static_cast<float>(static_cast<int>(i * 13 % 29) - 14) / 16.0f;
  memory packed(desc, engine);
  dnnl::reorder(plain, packed).execute(stream, plain, packed);
  stream.wait();
  return packed;
}

size_t rotated_bytes = 0;

/// Copies of a case's arguments, which take turns.
class Rotation {
 public:
  template <class Make>
  explicit Rotation(const Make& make) {
    do copies_.push_back(make());
    while (copies_.size() < 64 && copies_.size() * bytes_of(copies_[0]) < rotated_bytes);
  }
  const Arguments& next() { return copies_[next_++ % copies_.size()]; }

 private:
  static size_t bytes_of(const Arguments& arguments) {
    size_t bytes = 0;
    for (const auto& [name, argument] : arguments) bytes += argument.get_desc().get_size();
    return bytes;
  }
  std::vector<Arguments> copies_;
  size_t next_ = 0;
};

void report(const std::string& name, const std::string& implementation, double flops, double seconds,
            const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> times;
  for (int i = 0; i < 3; i++) run();
  const auto start = Clock::now();
  while (times.size() < 5 || std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
    const auto begin = Clock::now();
    run();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  std::sort(times.begin(), times.end());
  const auto quantile = [&](double q) {
    return times[static_cast<size_t>(q * static_cast<double>(times.size() - 1) + 0.5)];
  };
  std::printf(
      "{\"case\":\"%s\",\"medianMs\":%.5g,\"p10Ms\":%.5g,\"p90Ms\":%.5g,\"reps\":%zu,\"flops\":%.6g,"
      "\"implementation\":\"%s\"}\n",
      name.c_str(), quantile(0.5), quantile(0.1), quantile(0.9), times.size(), flops, implementation.c_str());
  std::fflush(stdout);
}

void matmul(const std::string& name, memory::data_type dtype, const Dims& mnk, double seconds) {
  using Tag = memory::format_tag;
  const memory::dim m = mnk[0], n = mnk[1], k = mnk[2];
  const memory::desc a({m, k}, dtype, Tag::ab), b({k, n}, dtype, Tag::any), c({m, n}, dtype, Tag::ab);
  const dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(a, b, c), engine);
  Rotation arguments([&] {
    return Arguments{{DNNL_ARG_SRC, filled(a, {m, k}, Tag::ab)},
                     {DNNL_ARG_WEIGHTS, filled(pd.weights_desc(), {k, n}, Tag::ba)},
                     {DNNL_ARG_DST, memory(pd.dst_desc(), engine)}};
  });
  const dnnl::matmul primitive(pd);
  report(name, pd.impl_info_str(), 2.0 * m * n * k, seconds, [&] {
    primitive.execute(stream, arguments.next());
    stream.wait();
  });
}

void convolution(const std::string& name, memory::data_type dtype, const Dims& x, const Dims& w,
                 const Dims& pad, double seconds) {
  using Tag = memory::format_tag;
  const Dims src = {x[0], x[4], x[1], x[2], x[3]}, weights = {w[0], x[4], w[1], w[2], w[3]};
  const Dims dst = {x[0], w[0], x[1] + 2 * pad[0] - w[1] + 1, x[2] + 2 * pad[1] - w[2] + 1,
                    x[3] + 2 * pad[2] - w[3] + 1};
  const memory::desc a(src, dtype, Tag::ndhwc), b(weights, dtype, Tag::any), c(dst, dtype, Tag::ndhwc);
  const dnnl::convolution_forward::primitive_desc pd(
      {dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_direct, a, b, c, Dims{1, 1, 1}, pad,
       pad},
      engine);
  Rotation arguments([&] {
    return Arguments{{DNNL_ARG_SRC, filled(a, src, Tag::ndhwc)},
                     {DNNL_ARG_WEIGHTS, filled(pd.weights_desc(), weights, Tag::abcde)},
                     {DNNL_ARG_DST, memory(pd.dst_desc(), engine)}};
  });
  const dnnl::convolution_forward primitive(pd);
  const double outputs = static_cast<double>(dst[0] * dst[2] * dst[3] * dst[4]);
  report(name, pd.impl_info_str(),
         2.0 * outputs * weights[0] * weights[1] * weights[2] * weights[3] * weights[4], seconds, [&] {
           primitive.execute(stream, arguments.next());
           stream.wait();
         });
}

void run_case(const std::string& text, double seconds) {
  const std::vector<std::string> parts = split(text, ':');
  const auto bad = [&] { return std::invalid_argument(text + ": not a case"); };
  if (parts.size() < 3) throw bad();
  if (parts[1] != "f32" && parts[1] != "bf16") throw bad();
  const auto dtype = parts[1] == "f32" ? memory::data_type::f32 : memory::data_type::bf16;
  std::string name = parts[0] + " " + parts[1] + " " + parts[2];
  if (parts[0] == "matmul" && parts.size() == 3) {
    matmul(name, dtype, dims_of(parts[2], 3), seconds);
  } else if (parts[0] == "conv" && (parts.size() == 4 || parts.size() == 5)) {
    const Dims x = dims_of(parts[2], 5), w = dims_of(parts[3], 4);
    const Dims pad = parts.size() == 5 ? dims_of(parts[4], 3) : Dims{w[1] / 2, w[2] / 2, w[3] / 2};
    convolution(name + " " + parts[3], dtype, x, w, pad, seconds);
  } else {
    throw bad();
  }
}

}  // namespace

int main(int argc, char** argv) try {
  double seconds = 1;
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    if (argument == "--version")
      std::printf("oneDNN %d.%d.%d\n", dnnl_version()->major, dnnl_version()->minor, dnnl_version()->patch);
    else if (argument == "--seconds" && i + 1 < argc)
      seconds = std::atof(argv[++i]);
    else if (argument == "--rotate" && i + 1 < argc)
      rotated_bytes = std::strtoull(argv[++i], nullptr, 10);
    else
      run_case(argument, seconds);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
