// TMA, bulk copies and cp.async: who has to wait for what, and who has to fence.
#include "simulator/tests/programs.h"

using namespace programs;

namespace {

const Program kPrograms[] = {
    // ---- TMA and bulk loads
    {"a box is waited for", nullptr, 64,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 0);
       lds<uint32_t>(tile() + 4 * thread());
     }},
    {"a box is not waited for", "race", 64,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) {
         load_box(bar);
         sts(bar + 64, 1u);
       }
       syncthreads();
       lds<uint32_t>(tile() + 4 * thread());
       mbar_wait(bar, 0);
     }},
    {"nobody waits for a box at all", "race|protocol", 64,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) load_box(bar);
     }},
    {"a buffer is filled again while it is read", "race|protocol", 64,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 0);
       lds<uint32_t>(tile() + 4 * thread());
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 1);
     }},
    {"a buffer is filled again after a barrier", nullptr, 64,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 0);
       lds<uint32_t>(tile() + 4 * thread());
       syncthreads();
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 1);
       lds<uint32_t>(tile() + 4 * thread());
     }},
    {"two boxes in one place at once", "race", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) {
         load_box(bar, 2 * kBox);
         tma_load_2d(tile(), &map, bar, 0, 4);
       }
       mbar_wait(bar, 0);
     }},
    {"fewer bytes announced than come", "protocol", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) load_box(bar, kBox - 16);
       mbar_wait(bar, 0);
     }},
    {"more bytes announced than come", "deadlock", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) load_box(bar, kBox + 16);
       mbar_wait(bar, 0);
     }},
    {"an mbarrier that copies have not been shown", "fence", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       if (thread() == 0) mbar_init(bar, 1);
       syncthreads();
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 0);
     }},
    {"a box that is not aligned", "alignment", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) {
         mbar_arrive_expect_tx(bar, kBox);
         tma_load_2d(tile() + 128, &map, bar, 0, 0);
       }
       mbar_wait(bar, 0);
     }},
    {"a box over the end of shared memory", "bounds", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) {
         mbar_arrive_expect_tx(bar, kBox);
         tma_load_2d(tile() + kSmem - 1024, &map, bar, 0, 0);
       }
       mbar_wait(bar, 0);
     }},
    {"a map of another rank", "protocol", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) tma_load_3d(tile(), &map, bar, 0, 0, 0);
     }},
    {"a bulk load", nullptr, 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) {
         mbar_arrive_expect_tx(bar, 128);
         bulk_load(tile(), given->ptr(), 128, bar);
       }
       mbar_wait(bar, 0);
       lds<uint32_t>(tile() + 4 * thread());
     }},
    {"a bulk load of 8 bytes", "alignment", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) bulk_load(tile(), given->ptr(), 8, bar);
     }},
    {"a bulk load past the end", "bounds", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       if (thread() == 0) bulk_load(tile(), given->ptr() + 1024, 16, bar);
     }},
    {"TMA of global memory that the kernel wrote and fenced", nullptr, 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       for (uint32_t i = 0; i < 4; i++) stg(given->ptr() + 32 * i + thread(), i);
       fence_proxy_async_global();
       syncthreads();
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 0);
     }},
    {"TMA of global memory that the kernel wrote and fenced in shared memory", "fence", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       for (uint32_t i = 0; i < 4; i++) stg(given->ptr() + 32 * i + thread(), i);
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) load_box(bar);
       mbar_wait(bar, 0);
     }},

    // ---- TMA and bulk stores
    {"a box is stored", nullptr, 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         bulk_wait<0>();
       }
     }},
    {"a box is stored without a fence", "fence", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         bulk_wait<0>();
       }
     }},
    {"the storing thread alone fences", "fence", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       syncthreads();
       if (thread() == 0) {
         fence_proxy_async();
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         bulk_wait<0>();
       }
     }},
    {"a box is stored without a barrier", "race|uninitialised", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       if (thread() == 0) {
         sts(tile() + 4 * 128, 0u);
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         bulk_wait<0>();
       }
     }},
    {"written again after wait_group.read", nullptr, 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         bulk_wait_read<0>();
         sts(tile(), 1u);
         bulk_wait<0>();
       }
     }},
    {"written again without a wait", "race", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         sts(tile(), 1u);
         bulk_wait<0>();
       }
     }},
    {"written again after waiting for the group before", "race", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         bulk_wait_read<1>();
         sts(tile(), 1u);
         bulk_wait<0>();
       }
     }},
    {"a store that nobody waits for", "protocol", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
       }
     }},
    {"a store that is not committed", "protocol", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_wait<0>();
       }
     }},
    {"read back after only wait_group.read", "race", 128,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         tma_store_2d(&map, tile(), 0, 0);
         bulk_commit();
         bulk_wait_read<0>();
         ldg_coherent(given->ptr());
         bulk_wait<0>();
       }
     }},
    {"a bulk store", nullptr, 32,
     [] {
       sts(tile() + 4 * thread(), thread());
       fence_proxy_async();
       syncthreads();
       if (thread() == 0) {
         bulk_store(fresh->ptr(), tile(), 128);
         bulk_commit();
         bulk_wait<0>();
         ldg_coherent(fresh->ptr());
       }
     }},

    // ---- cp.async
    {"cp.async is waited for", nullptr, 32,
     [] {
       cp_async16(smem_base() + 16 * thread(), given->ptr() + 4 * thread(), true);
       cp_async_commit();
       cp_async_wait<0>();
       syncthreads();
       lds<uint32_t>(smem_base() + 16 * (31 - thread()));
     }},
    {"cp.async is waited for by others only", "race", 32,
     [] {
       cp_async16(smem_base() + 16 * thread(), given->ptr() + 4 * thread(), true);
       cp_async_commit();
       cp_async_wait<1>();
       syncthreads();
       lds<uint32_t>(smem_base() + 16 * (31 - thread()));
     }},
    {"cp.async without a barrier", "race|uninitialised", 32,
     [] {
       cp_async16(smem_base() + 16 * thread(), given->ptr() + 4 * thread(), true);
       cp_async_commit();
       cp_async_wait<0>();
       lds<uint32_t>(smem_base() + 16 * (31 - thread()));
     }},
    {"cp.async of nothing reads nothing", nullptr, 32,
     [] {
       cp_async16(smem_base() + 16 * thread(), given->ptr() + 1024, false);
       cp_async_commit();
       cp_async_wait<0>();
       if (lds<uint32_t>(smem_base() + 16 * thread()) != 0) lds<uint32_t>(0);
     }},
    {"cp.async past the end", "bounds", 32, [] { cp_async16(smem_base(), given->ptr() + 1024, true); }},
    {"cp.async misaligned", "alignment", 32, [] { cp_async16(smem_base() + 8, given->ptr(), true); }},

};

}  // namespace

int main() { return run_all("checkers_copies", kPrograms); }
