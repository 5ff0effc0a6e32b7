// Blocks that reach into each other.
#include "simulator/tests/programs.h"

using namespace programs;

namespace {

const Program kPrograms[] = {
    // ---- clusters
    {"a peer's memory", nullptr, 32,
     [] {
       sts(smem_base() + 4 * thread(), cluster_rank());
       cluster_sync();
       if (lds_cluster<uint32_t>(mapa(smem_base() + 4 * thread(), cluster_rank() ^ 1)) == cluster_rank()) {
         lds<uint32_t>(0);
       }
       cluster_sync();
     },
     2, 2},
    {"a peer's memory before it has started", "race", 32,
     [] {
       sts_cluster(mapa(smem_base() + 4 * thread(), cluster_rank() ^ 1), 1u);
       cluster_sync();
     },
     2, 2},
    {"a peer's memory after it may have ended", "race|protocol", 32,
     [] {
       sts(smem_base() + 4 * thread(), 1u);
       cluster_sync();
       if (cluster_rank() == 0) lds_cluster<uint32_t>(mapa(smem_base() + 4 * thread(), 1));
     },
     2, 2},
    {"a peer's memory without ordering", "race|uninitialised", 32,
     [] {
       cluster_sync();
       sts_cluster(mapa(smem_base() + 4 * thread(), cluster_rank() ^ 1), 1u);
       lds<uint32_t>(smem_base() + 4 * thread());
       cluster_sync();
     },
     2, 2},
    {"a block that is not there", "bounds", 32, [] { mapa(smem_base(), 2); }, 2, 2},
    {"a block misses the cluster barrier", "deadlock", 32,
     [] {
       if (cluster_rank() == 0) {
         cluster_sync();
       } else {
         bar_sync(1, 64);
       }
     },
     2, 2},
    {"a block that ends counts as arrived", nullptr, 32,
     [] {
       if (cluster_rank() == 0) cluster_sync();
     },
     2, 2},
    {"waiting for the cluster without arriving", "protocol", 32, [] { cluster_wait(); }, 2, 2},
    {"a peer's arrival", nullptr, 32,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 32);
       cluster_sync();
       mbar_arrive_cluster(mapa(bar, cluster_rank() ^ 1));
       mbar_wait_cluster(bar, 0);
     },
     2, 2},
    {"a peer's arrival that nobody there waits for", "race|protocol", 32,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 32);
       cluster_sync();
       if (cluster_rank() == 0) mbar_arrive_cluster(mapa(bar, 1));
     },
     2, 2},
    {"a peer's arrival at a barrier it was not shown", "fence", 32,
     [] {
       const uint32_t bar = tile();
       if (thread() == 0) mbar_init(bar, 32);
       cluster_sync();
       mbar_arrive_cluster(mapa(bar, cluster_rank() ^ 1));
       mbar_wait_cluster(bar, 0);
     },
     2, 2},
    {"a multicast box", nullptr, 128,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       cluster_sync();
       if (thread() == 0) {
         mbar_arrive_expect_tx(bar, kBox);
         if (cluster_rank() == 0) tma_load_multicast_2d(tile(), &map, bar, 3, 0, 0);
       }
       mbar_wait(bar, 0);
       if (lds<uint32_t>(tile() + 4 * thread()) != ldg(given->ptr() + thread())) lds<uint32_t>(0);
     },
     2, 2},
    {"a multicast box that one block does not wait for", "race|protocol", 128,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       cluster_sync();
       if (thread() == 0) {
         mbar_arrive_expect_tx(bar, kBox);
         if (cluster_rank() == 0) tma_load_multicast_2d(tile(), &map, bar, 3, 0, 0);
       }
       if (cluster_rank() == 0) mbar_wait(bar, 0);
     },
     2, 2},
    {"a multicast box over what a peer still reads", "race", 128,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       cluster_sync();
       for (uint32_t phase = 0; phase < 2; phase++) {
         if (thread() == 0) {
           mbar_arrive_expect_tx(bar, kBox);
           if (cluster_rank() == 0) tma_load_multicast_2d(tile(), &map, bar, 3, 0, 0);
         }
         mbar_wait(bar, phase);
         lds<uint32_t>(tile() + 4 * thread());
         syncthreads();  // the own block's readers only
       }
     },
     2, 2},
    {"multicast to a block that is not there", "protocol", 32,
     [] {
       const uint32_t bar = tile() + 4096;
       init_barrier(bar);
       cluster_sync();
       if (thread() == 0 && cluster_rank() == 0) tma_load_multicast_2d(tile(), &map, bar, 4, 0, 0);
     },
     2, 2},
};

}  // namespace

int main() { return run_all("checkers_clusters", kPrograms); }
