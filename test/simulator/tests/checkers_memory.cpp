// Ordering, bounds and contents of shared and global memory.
#include "simulator/tests/programs.h"

using namespace programs;

namespace {

const Program kPrograms[] = {
    // ---- shared memory between threads
    {"handed over by syncthreads", nullptr, 64,
     [] {
       sts(smem_base() + 4 * thread(), thread());
       syncthreads();
       stg(fresh->ptr() + thread(), lds<uint32_t>(smem_base() + 4 * (63 - thread())));
     }},
    {"handed over by nothing", "race|uninitialised", 64,
     [] {
       sts(smem_base() + 4 * thread(), thread());
       if (thread() < 32) bar_sync(1, 32);
       if (thread() < 32) lds<uint32_t>(smem_base() + 4 * (63 - thread()));
     }},
    {"overwritten while others may read", "race", 64,
     [] {
       if (thread() == 0) sts(smem_base(), 1u);
       syncthreads();
       lds<uint32_t>(smem_base());
       if (thread() == 0) sts(smem_base(), 2u);
     }},
    {"two writers", "race", 64, [] { sts(smem_base(), thread()); }},
    {"neighbouring bytes", nullptr, 64,
     [] {
       sts(smem_base() + thread(), static_cast<uint8_t>(thread()));
       syncthreads();
       lds<uint8_t>(smem_base() + 63 - thread());
     }},
    {"neighbouring halves, then read as words", nullptr, 64,
     [] {
       sts(smem_base() + 2 * thread(), static_cast<uint16_t>(thread()));
       syncthreads();
       if (thread() < 32) lds<uint32_t>(smem_base() + 4 * thread());
     }},
    {"syncwarp orders a warp", nullptr, 32,
     [] {
       sts(smem_base() + 4 * thread(), thread());
       syncwarp();
       lds<uint32_t>(smem_base() + 4 * (31 - thread()));
     }},
    {"syncwarp orders only its warp", "race|uninitialised", 64,
     [] {
       sts(smem_base() + 4 * thread(), thread());
       syncwarp();
       lds<uint32_t>(smem_base() + 4 * (63 - thread()));
     }},
    {"a shuffle orders nothing", "race", 32,
     [] {
       sts(smem_base() + 4 * thread(), thread());
       shfl_xor(1.0f, 16);
       lds<uint32_t>(smem_base() + 4 * (31 - thread()));
     }},
    {"arrive releases, sync acquires", nullptr, 64,
     [] {
       if (thread() < 32) {
         sts(smem_base() + 4 * thread(), thread());
         bar_arrive(3, 64);
       } else {
         bar_sync(3, 64);
         lds<uint32_t>(smem_base() + 4 * (thread() - 32));
       }
     }},
    {"arrive does not acquire", "race|uninitialised", 64,
     [] {
       if (thread() < 32) {
         bar_arrive(3, 64);
         lds<uint32_t>(smem_base() + 4 * thread());
       } else {
         sts(smem_base() + 4 * (thread() - 32), thread());
         bar_sync(3, 64);
       }
     }},
    {"never written", "uninitialised", 32, [] { lds<uint32_t>(smem_base() + 64); }},
    {"half written", "uninitialised", 32,
     [] {
       sts(smem_base() + 16 * thread(), uint16_t{1});
       lds<uint32_t>(smem_base() + 16 * thread());
     }},
    {"past the end of shared memory", "bounds", 32, [] { sts(smem_base() + kSmem, 1u); }},
    {"before its begin", "bounds", 32, [] { sts(smem_base() - 4, 1u); }},
    {"misaligned in shared memory", "alignment", 32, [] { sts(smem_base() + 2, 1u); }},

    // ---- global memory
    {"a block reads what it wrote and waited for", nullptr, 64,
     [] {
       stg(fresh->ptr() + thread(), thread());
       syncthreads();
       ldg_coherent(fresh->ptr() + 63 - thread());
     }},
    {"a block reads what it wrote and did not wait for", "race|uninitialised", 64,
     [] {
       stg(fresh->ptr() + thread(), thread());
       ldg_coherent(fresh->ptr() + 63 - thread());
     }},
    {"in place, each its own", nullptr, 64,
     [] { stg(given->ptr() + thread(), ldg(given->ptr() + thread()) + 1); }},
    {"in place, a neighbour's", "race", 64,
     [] { stg(given->ptr() + thread(), ldg(given->ptr() + (thread() ^ 1)) + 1); }},
    {"non-coherent load of fresh data", "protocol", 64,
     [] {
       stg(fresh->ptr() + thread(), thread());
       syncthreads();
       ldg(fresh->ptr() + 63 - thread());
     }},
    {"bytes of neighbouring blocks", nullptr, 32,
     [] { stg(reinterpret_cast<uint8_t*>(fresh->ptr()) + blockIdx.x * 32 + thread(), uint8_t{1}); }, 1, 4},
    {"blocks write the same", "race", 32, [] { stg(fresh->ptr() + thread(), blockIdx.x); }, 1, 2},
    {"a block reads what another writes", "race", 32,
     [] {
       if (blockIdx.x == 0) stg(given->ptr() + thread(), 1u);
       if (blockIdx.x == 1) ldg(given->ptr() + thread());
     },
     1, 2},
    {"blocks read the same", nullptr, 32, [] { ldg(given->ptr() + thread()); }, 1, 3},
    {"three blocks read, one of them writes", "race", 32,
     [] {
       ldg(given->ptr() + thread());
       if (blockIdx.x == 1) stg(given->ptr() + thread(), 1u);
     },
     1, 3},
    {"global memory that nobody wrote", "uninitialised", 32, [] { ldg(fresh->ptr() + thread()); }},
    {"past the end of an allocation", "bounds", 32, [] { ldg(given->ptr() + given->size()); }},
    {"a vector over the end of an allocation", "bounds", 32,
     [] { ldg(reinterpret_cast<const uint4*>(given->ptr() + 1024)); }},
    {"misaligned in global memory", "alignment", 32,
     [] { ldg(reinterpret_cast<const uint4*>(given->ptr() + 1)); }},

};

}  // namespace

int main() { return run_all("checkers_memory", kPrograms); }
