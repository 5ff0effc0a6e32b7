#include "cpu/backend.h"

#include "cpu/isa.h"

namespace fsv {

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  const int threads = options.threads > 0 ? options.threads : available_processors();
  return std::make_unique<cpu::CpuBackend>(cpu::kernels_for(options.isa), threads);
}

size_t cpu::CpuBackend::packed_bytes(const PackArgs& args) const { return cpu::packed_bytes(args); }

}  // namespace fsv
