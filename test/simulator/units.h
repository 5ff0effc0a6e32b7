// The units of the simulated device, as the wrappers in device/ call them: one function an instruction or
// family of them. Each call names the line of the kernel it came from.
#pragma once

#include <cstdint>

#include "simulator/tensor_map.h"
#include "simulator/vector_types.h"

// Set by the scheduler whenever it goes on with another thread.
extern constinit thread_local uint3 threadIdx, blockIdx;
extern constinit thread_local dim3 blockDim, gridDim;

namespace sim {

struct Location {
  const char* file;
  int line;
};
constexpr Location here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {file, line};
}

// ---- memory
enum class Access { read, read_noncoherent, write };
uint32_t smem_base();
void* shared_access(uint32_t address, uint32_t bytes, Access, Location);  // where the bytes are, once checked
void global_access(const void* p, uint32_t bytes, Access, Location);

// ---- warps
enum class Shuffle { index, exclusive_or, up, down };
void sync_warp(uint32_t mask, Location);
uint64_t shuffle(uint64_t value, Shuffle kind, int operand, Location);
uint32_t ballot(bool predicate, Location);
bool elect(Location);

// ---- blocks and clusters
void barrier(int id, int threads, bool wait, Location);  // threads 0: the whole block
void set_registers(int count, bool increase, Location);
unsigned cluster_rank();
unsigned cluster_size();
void cluster_arrive(Location);
void cluster_wait(Location);
uint32_t map_shared(uint32_t address, uint32_t rank, Location);

// ---- fences
enum class Fence { async_shared, async_global, mbarrier_init };
void fence(Fence, Location);

// ---- mbarriers
void mbarrier_init(uint32_t bar, uint32_t arrivals, Location);
void mbarrier_invalidate(uint32_t bar, Location);
void mbarrier_arrive(uint32_t bar, uint32_t arrivals, uint32_t bytes, Location);
bool mbarrier_test(uint32_t bar, uint32_t parity, Location);
void mbarrier_wait(uint32_t bar, uint32_t parity, Location);

// ---- copies. `blocks`: 0 for the own block, else a mask of those of the cluster.
void tma_load(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, int rank, const int* at,
              Location);
void tma_load_im2col(uint32_t dst, const TensorMap* map, uint32_t bar, uint16_t blocks, const int* at,
                     const uint16_t* offsets, Location);
void tma_store(const TensorMap* map, uint32_t src, int rank, const int* at, Location);
void bulk_load(uint32_t dst, const void* src, uint32_t bytes, uint32_t bar, Location);
void bulk_store(void* dst, uint32_t src, uint32_t bytes, Location);
void bulk_commit(Location);
void bulk_wait(int pending, bool only_reads, Location);
void cp_async(uint32_t dst, const void* src, int size, int valid, Location);
void cp_async_commit(Location);
void cp_async_wait(int pending, Location);

// ---- tensor cores
enum class Element { bf16, e4m3 };
struct Wgmma {
  float* d;
  int n;
  Element element;
  const uint32_t* registers;  // A, or null where `a` describes it
  uint64_t a, b;
  bool add;
  int major_a, major_b;
};
void wgmma_fence(Location);
void wgmma(const Wgmma&, Location);
void wgmma_commit(Location);
void wgmma_wait(int pending, Location);
void mma(float* d, const uint32_t* a, const uint32_t* b, Element, Location);
void matrix_load(uint32_t* r, int count, uint32_t row, bool transposed, Location);
void matrix_store(const uint32_t* r, int count, uint32_t row, bool transposed, Location);

}  // namespace sim
