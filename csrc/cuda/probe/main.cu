// fsvideo-probe [device]
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/probe/probe.h"

namespace fsv::cuda::probe {

void Probe::topic(const std::string& name) { std::printf("\n%s\n", name.c_str()); }

void Probe::fact(const std::string& claim, bool holds, const std::string& detail) {
  facts_++;
  failures_ += !holds;
  if (holds) {
    std::printf("  yes  %s\n", claim.c_str());
  } else {
    std::printf("  NO   %s: %s\n", claim.c_str(), detail.c_str());
  }
}

void Probe::equal(const std::string& claim, const std::vector<float>& got, const std::vector<float>& want,
                  double tolerance) {
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i < want.size(); i++) {
    const double error = std::abs(double{got[i]} - double{want[i]});
    if (error <= tolerance * (1 + std::abs(double{want[i]}))) continue;
    if (!wrong++) first = i;
  }
  char text[160] = "";
  if (wrong) {
    std::snprintf(text, sizeof text, "%zu of %zu differ, first [%zu] is %g and not %g", wrong, want.size(),
                  first, double{got[first]}, double{want[first]});
  }
  fact(claim, wrong == 0, text);
}

void Probe::equal(const std::string& claim, const std::vector<uint8_t>& got,
                  const std::vector<uint8_t>& want) {
  equal(claim, std::vector<float>(got.begin(), got.end()), std::vector<float>(want.begin(), want.end()));
}

void Probe::answer(const std::string& question, const std::string& found) {
  std::printf("  ?    %s: %s\n", question.c_str(), found.c_str());
}

float small(size_t i) {
  const uint32_t mixed = static_cast<uint32_t>(i + 1) * 2654435761u;
  return static_cast<float>(static_cast<int>(mixed >> 28) - 8) * 0.25f;  // -2 .. 1.75, exact as e4m3
}

}  // namespace fsv::cuda::probe

int main(int argc, char** argv) {
  using namespace fsv::cuda;
  using namespace fsv::cuda::probe;
  const int device = argc > 1 ? std::atoi(argv[1]) : 0;
  int failures = 0;
  try {
    check(cudaSetDevice(device), "cudaSetDevice");
    cudaDeviceProp card;
    check(cudaGetDeviceProperties(&card, device), "cudaGetDeviceProperties");
    std::printf("%s, compute capability %d.%d\n", card.name, card.major, card.minor);
#if defined(__CUDACC__)
    Probe probe(false);
#else
    Probe probe(true);
#endif
    warp_facts(probe);
    if (card.major == 9) {
      wgmma_facts(probe);
      tiled_facts(probe);
      im2col_facts(probe);
      block_facts(probe);
      wgmma_answers(probe);
    }
    failures = probe.failures();
  } catch (const std::exception& error) {
    std::printf("  NO   the probe ends early: %s\n", error.what());
    failures++;
  }
  std::printf("\n%s\n", failures ? "Not all claims hold." : "All claims hold.");
  return failures ? 1 : 0;
}
