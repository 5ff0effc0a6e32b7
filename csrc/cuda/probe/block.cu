// What warps and blocks do together: mbarriers, copies that report to them, clusters.
#include <cstring>

#include "cuda/probe/probe.h"
#include "cuda/ptx/ptx.cuh"
#include "cuda/tensor_map.h"

namespace fsv::cuda::probe {
namespace {

using namespace fsv::ptx;

/// A ring of two slots, one warp that fills it and one that empties it: `rounds` values pass, doubled.
FSV_KERNEL void FSV_BOUNDS(64, 1) pass_on(const float* in, float* out, int rounds) {
#if FSV_SM90A
  const uint32_t base = align_up(smem_base(), 128), full = base, empty = base + 16, slots = base + 128;
  const int lane = lane_id();
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; i++) {
      mbar_init(full + 8 * i, 32);
      mbar_init(empty + 8 * i, 32);
    }
    fence_mbar_init();
  }
  syncthreads();
  for (int i = 0; i < rounds; i++) {
    const uint32_t slot = i % 2, parity = i / 2 % 2, at = slots + 128 * slot + 4 * lane;
    if (threadIdx.x < 32) {
      mbar_wait(empty + 8 * slot, parity ^ 1);
      sts(at, ldg(in + 32 * i + lane));
      mbar_arrive(full + 8 * slot);
    } else {
      while (!mbar_try_wait(full + 8 * slot, parity)) {
      }
      stg(out + 32 * i + lane, 2 * lds<float>(at));
      mbar_arrive(empty + 8 * slot);
    }
  }
#endif
}

/// 512 bytes come by one bulk copy and leave by another, 4 more words by cp.async of 16 bytes of which
/// `valid` count.
FSV_KERNEL void copy_in_bulk(const float* in, float* out, int valid) {
#if FSV_SM90A
  const uint32_t tile = align_up(smem_base(), 128), bar = tile + 1024, rest = tile + 512;
  if (threadIdx.x == 0) {
    mbar_init(bar, 1);
    fence_mbar_init();
    mbar_expect_tx(bar, 512);
    mbar_arrive(bar);
    bulk_load(tile, in, 512, bar);
  }
  syncthreads();
  mbar_wait(bar, 0);
  sts(tile + 4 * threadIdx.x, lds<float>(tile + 4 * threadIdx.x) + 1);
  fence_proxy_async();
  syncthreads();
  if (threadIdx.x == 0) {
    bulk_store(out, tile, 512);
    bulk_commit();
    bulk_wait<0>();
    cp_async16_partial(rest, in, valid);
    cp_async_commit();
    cp_async_wait<0>();
    for (int i = 0; i < 4; i++) stg(out + 128 + i, lds<float>(rest + 4 * i));
  }
#endif
}

/// Block r of two loads the upper or lower half of a tile into both; each stores the tile, and what its peer
/// says.
FSV_KERNEL void FSV_BOUNDS(128, 1) share_tile(FSV_GRID_CONSTANT TensorMap map, float* out) {
#if FSV_SM90A
  const uint32_t tile = align_up(smem_base(), 1024), full = tile + 2048, empty = full + 8, note = full + 64;
  const uint32_t rank = cluster_rank(), peer = rank ^ 1, t = threadIdx.x;
  if (t == 0) {
    mbar_init(full, 1);
    mbar_init(empty, 2);
    fence_mbar_init();
  }
  cluster_sync();
  for (uint32_t round = 0; round < 2; round++) {
    if (t == 0) {
      mbar_wait_cluster(empty, round ^ 1);
      mbar_arrive_expect_tx(full, 1024);
      tma_load_multicast_2d(tile + 512 * rank, &map, full, 3, 0, static_cast<int>(8 * round + 4 * rank));
    }
    mbar_wait(full, round);
    for (uint32_t i = t; i < 256; i += 128) stg(out + 512 * rank + 256 * round + i, lds<float>(tile + 4 * i));
    syncthreads();
    if (t < 2) mbar_arrive_cluster(mapa(empty, t));  // both may load over it
  }
  if (t == 0) sts_cluster(mapa(note, peer), 100.0f + static_cast<float>(rank));
  cluster_sync();
  if (t == 0) {
    stg(out + 1024 + rank, lds<float>(note));
    stg(out + 1026 + rank, static_cast<float>(cluster_size()));
    mbar_wait_cluster(empty, 1);  // nobody ends while its peer may still arrive
  }
#endif
}

/// Registers move between warpgroups, and one waits for the other at a named barrier.
FSV_KERNEL void FSV_BOUNDS(384, 1) move_registers(float* out) {
#if FSV_SM90A
  const uint32_t note = align_up(smem_base(), 16);
  if (threadIdx.x < 128) {
    setmaxnreg_dec<40>();
    sts(note + 4 * threadIdx.x, static_cast<float>(threadIdx.x));
    bar_arrive(1, 384);
  } else {
    setmaxnreg_inc<232>();
    bar_sync(1, 384);
    const uint32_t i = threadIdx.x % 128;
    stg(out + threadIdx.x - 128, lds<float>(note + 4 * (127 - i)));
  }
#endif
}

}  // namespace

void block_facts(Probe& probe) {
  probe.topic("Blocks and clusters");
  std::vector<float> in(1024), want;
  for (size_t i = 0; i < in.size(); i++) in[i] = static_cast<float>(i);
  const Array<float> source(in);

  const Array<float> passed(32 * 9);
  run(pass_on, 1, 64, 1024, source.data(), passed.data(), 9);
  for (size_t i = 0; i < 32 * 9; i++) want.push_back(2 * in[i]);
  probe.equal("mbarriers: parities of a ring", passed.read(), want);

  for (const int valid : {0, 6, 16}) {
    const Array<float> copied(132);
    run(copy_in_bulk, 1, 128, 2048, source.data(), copied.data(), valid);
    want.clear();
    for (size_t i = 0; i < 128; i++) want.push_back(in[i] + 1);
    std::vector<uint8_t> bytes(16);
    std::memcpy(bytes.data(), in.data(), static_cast<size_t>(valid));
    want.resize(132);
    std::memcpy(&want[128], bytes.data(), 16);
    probe.equal("bulk copies, and cp.async of " + std::to_string(valid) + " bytes", copied.read(), want);
  }

  const Array<float> shared(1028);
  const CUtensorMap map = make(TiledMap{.dtype = DType::f32,
                                        .data = source.data(),
                                        .rank = 2,
                                        .dims = {32, 32, 1, 1, 1},
                                        .strides = {128},
                                        .box = {32, 4, 1, 1, 1}});
  run(share_tile, 2, 128, 4096, map, shared.data());
  want.clear();
  for (int rank = 0; rank < 2; rank++) want.insert(want.end(), in.begin(), in.begin() + 512);
  for (const float note : {101.0f, 100.0f, 2.0f, 2.0f}) want.push_back(note);
  probe.equal("clusters: multicast, remote arrivals and stores", shared.read(), want);

  const Array<float> moved(256);
  run(move_registers, 1, 384, 1024, moved.data());
  want.clear();
  for (int i = 0; i < 256; i++) want.push_back(static_cast<float>(127 - i % 128));
  probe.equal("setmaxnreg, and a named barrier with arrivals", moved.read(), want);
}

}  // namespace fsv::cuda::probe
