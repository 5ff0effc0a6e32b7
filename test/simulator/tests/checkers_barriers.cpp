// What warps, blocks and mbarriers demand of those who use them.
#include "simulator/tests/programs.h"

using namespace programs;

namespace {

const Program kPrograms[] = {
    // ---- warps and blocks
    {"shuffle under a branch", "deadlock", 32,
     [] {
       if (thread() < 16) shfl_xor(1.0f, 1);
     }},
    {"shuffles in two places", "protocol", 32,
     [] {
       if (thread() < 16) {
         shfl_xor(1.0f, 1);
       } else {
         shfl_xor(2.0f, 1);
       }
     }},
    {"syncwarp of halves", nullptr, 32, [] { syncwarp(thread() < 16 ? 0xffffu : 0xffff0000u); }},
    {"syncwarp of a mask without the caller", "protocol", 32, [] { syncwarp(0xffffu); }},
    {"a thread misses a barrier", "deadlock", 64,
     [] {
       if (thread() != 5) syncthreads();
     }},
    {"two counts at one barrier", "protocol", 96, [] { bar_sync(2, thread() < 32 ? 64 : 96); }},
    {"an elected lane is one", nullptr, 32,
     [] {
       if (elect_one()) sts(smem_base(), thread());
     }},
    {"registers move", nullptr, 384,
     [] {
       if (thread() < 128) {
         setmaxnreg_dec<40>();
       } else {
         setmaxnreg_inc<232>();
       }
     }},
    {"more registers than there are", "deadlock", 512,
     [] {
       if (thread() < 128) {
         setmaxnreg_dec<40>();
       } else {
         setmaxnreg_inc<240>();
       }
     }},
    {"registers of half a warpgroup", "protocol", 128,
     [] {
       if (thread() < 64) setmaxnreg_dec<40>();
     }},
    {"more registers by dec", "protocol", 512, [] { setmaxnreg_dec<240>(); }},

    // ---- mbarriers
    {"arrive and wait hand over", nullptr, 64,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 32);
       if (thread() < 32) {
         sts(bar + 128 + 4 * thread(), thread());
         mbar_arrive(bar);
       } else {
         mbar_wait(bar, 0);
         lds<uint32_t>(bar + 128 + 4 * (thread() - 32));
       }
     }},
    {"polling hands over too", nullptr, 64,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 32);
       if (thread() < 32) {
         sts(bar + 128 + 4 * thread(), thread());
         mbar_arrive(bar);
       } else {
         while (!mbar_try_wait(bar, 0)) {
         }
         lds<uint32_t>(bar + 128 + 4 * (thread() - 32));
       }
     }},
    {"polling keeps nobody from running", nullptr, 64,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 32);
       if (thread() < 32) {
         while (!mbar_try_wait(bar, 0)) {
         }
       } else {
         for (int i = 0; i < 3; i++) bar_sync(1, 32);
         mbar_arrive(bar);
       }
     }},
    {"the parity of the phase before", "race|uninitialised", 64,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 32);
       if (thread() < 32) {
         sts(bar + 128 + 4 * thread(), thread());
         mbar_arrive(bar);
       } else {
         mbar_wait(bar, 1);  // passes at once
         lds<uint32_t>(bar + 128 + 4 * (thread() - 32));
       }
     }},
    {"an arrival is missing", "deadlock", 64,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 33);
       if (thread() < 32) mbar_arrive(bar);
       mbar_wait(bar, 0);
     }},
    {"polling for what never comes", "deadlock", 32,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 33);
       while (!mbar_try_wait(bar, 0)) {
       }
     }},
    {"an arrival too many", "protocol", 64,
     [] {
       const uint32_t bar = tile();
       init_barrier(bar, 64);
       mbar_arrive(bar);
       if (thread() == 0) {
         mbar_expect_tx(bar, 16);  // keeps the phase open
         mbar_arrive(bar);
       }
     }},
    {"used without being ordered after the init", "race|protocol", 64,
     [] {
       if (thread() == 0) mbar_init(tile(), 1);
       if (thread() == 32) mbar_arrive(tile());
     }},
    {"never initialised", "protocol", 32, [] { mbar_wait(tile(), 1); }},
    {"stored over", "protocol", 32,
     [] {
       init_barrier(tile());
       if (thread() == 0) sts(tile(), 0u);
     }},
    {"its bytes are free after inval", nullptr, 32,
     [] {
       init_barrier(tile());
       if (thread() == 0) {
         mbar_inval(tile());
         sts(tile(), 0u);
       }
     }},
    {"initialised twice", "protocol", 32,
     [] {
       init_barrier(tile());
       if (thread() == 0) mbar_init(tile(), 1);
     }},
    {"misaligned mbarrier", "alignment", 32, [] { mbar_init(tile() + 4, 1); }},

};

}  // namespace

int main() { return run_all("checkers_barriers", kPrograms); }
