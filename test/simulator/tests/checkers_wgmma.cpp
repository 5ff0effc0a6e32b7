// wgmma: fences, waits, whose registers are whose, and descriptors that lead astray.
#include "simulator/tests/programs.h"

using namespace programs;

namespace {

constexpr uint32_t kOperand = 64 * 128;  // 64 rows of 64 bfloat16

uint32_t operand(int i) { return tile() + static_cast<uint32_t>(i) * kOperand; }
uint64_t describe(uint32_t address, uint32_t stride = 1024) { return gmma_desc(address, 16, stride, SW_128); }

/// Zeros in both operands, written by ordinary stores.
void fill(bool fenced = true) {
  for (uint32_t i = 4 * thread(); i < 2 * kOperand; i += 4 * blockDim.x) sts(tile() + i, 0u);
  if (fenced) fence_proxy_async();
  syncthreads();
}

void product(float (&d)[32], int scale_d = 0) {
  wgmma_bf16<64>(d, describe(operand(0)), describe(operand(1)), scale_d);
}

const Program kPrograms[] = {
    {"a product", nullptr, 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       product(d, 1);
       wgmma_commit();
       wgmma_wait<0>(d);
       if (d[0] != 0) lds<uint32_t>(0);
     }},
    {"operands that the async proxy has not been shown", "fence", 128,
     [] {
       fill(false);
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"operands that not all threads know to be written", "race|uninitialised", 256,
     [] {
       if (thread() >= 128) {
         for (uint32_t i = 4 * (thread() - 128); i < 2 * kOperand; i += 512) sts(tile() + i, 0u);
         fence_proxy_async();
         bar_arrive(1, 160);
       } else {
         if (thread() < 32) bar_sync(1, 160);
         float d[32];
         wgmma_fence(d);
         product(d);
         wgmma_commit();
         wgmma_wait<0>(d);
       }
     }},
    {"no wgmma.fence", "fence", 128,
     [] {
       fill();
       float d[32];
       product(d);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"no wgmma.fence after the registers came back", "fence", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       wgmma_wait<0>(d);
       product(d, 1);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"registers that never came back need no second fence", nullptr, 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       product(d, 1);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"fragments need a fence each time", "fence", 128,
     [] {
       fill();
       float d[32];
       uint32_t a[4] = {};
       wgmma_fence(d);
       wgmma_bf16_rs<64>(d, a, describe(operand(1)), 0);
       wgmma_commit();
       wgmma_bf16_rs<64>(d, a, describe(operand(1)), 1);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"an accumulator touched in flight", "race", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       d[3] = 1;
       wgmma_wait<0>(d);
     }},
    {"an accumulator read in flight", "race", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       d[3] *= 2;
       wgmma_wait<0>(d);
     }},
    {"two accumulators, the first is back", nullptr, 128,
     [] {
       fill();
       float d[32], e[32];
       wgmma_fence(d, e);
       product(d);
       wgmma_commit();
       product(e);
       wgmma_commit();
       wgmma_wait<1>(d);
       d[3] *= 2;
       wgmma_wait<0>(e);
       e[3] *= 2;
     }},
    {"not waited for", "protocol", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
     }},
    {"not committed", "protocol", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_wait<0>(d);
     }},
    {"operands overwritten in flight", "race", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       sts(operand(0) + 4 * thread(), 1u);
       wgmma_wait<0>(d);
     }},
    {"operands overwritten when done", nullptr, 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       wgmma_wait<0>(d);
       sts(operand(0) + 4 * thread(), 1u);
     }},
    {"operands overwritten while the latest group may run", "race", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       wgmma_commit();
       product(d, 1);
       wgmma_commit();
       wgmma_wait<1>();
       sts(operand(0) + 4 * thread(), 1u);
       wgmma_wait<0>(d);
     }},
    {"a warp does not take part", "deadlock", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       if (thread() < 96) product(d);
     }},
    {"threads disagree about the operands", "protocol", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       wgmma_bf16<64>(d, describe(operand(thread() < 64)), describe(operand(1)), 0);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"half a warpgroup", "protocol", 64,
     [] {
       float d[32];
       wgmma_fence(d);
       product(d);
     }},
    {"a stride past the end of shared memory", "bounds|uninitialised", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       wgmma_bf16<64>(d, describe(operand(0), 8192), describe(operand(1)), 0);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"a matrix that starts between the rows of an atom", "protocol", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       wgmma_bf16<64>(d, describe(operand(0) + 128), describe(operand(1)), 0);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
    {"another shape into registers in flight", "protocol", 128,
     [] {
       fill();
       float d[32];
       wgmma_fence(d);
       product(d);
       auto& half = *reinterpret_cast<float(*)[16]>(&d);
       wgmma_bf16<32>(half, describe(operand(0)), describe(operand(1)), 1);
       wgmma_commit();
       wgmma_wait<0>(d);
     }},
};

}  // namespace

int main() { return run_all("checkers_wgmma", kPrograms); }
