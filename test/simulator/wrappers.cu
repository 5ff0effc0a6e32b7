// Instantiates every wrapper of csrc/cuda/ptx, so that ptxas has read each instruction. Compiled, never run:
// with nvcc for sm_80 and sm_90a, and with a host compiler against the twins.
#include "cuda/ptx/ptx.cuh"

namespace {

using namespace fsv::ptx;

FSV_KERNEL void portable(const uint4* in, uint4* out, uint8_t* bytes, float x) {
  const uint32_t smem = smem_base() + 16 * lane_id();
  const uint4 quad = ldg(in);
  sts(smem, quad);
  syncthreads();
  stg(out, lds<uint4>(smem));
  stg_stream(out + 1, ldg_stream(in + 1));
  stg(out + 2, ldg_coherent(in + 2));
  sts<uint8_t>(smem, ldg(bytes));
  sts<uint16_t>(smem, lds<uint8_t>(smem));
  sts<uint32_t>(smem, lds<uint16_t>(smem));
  sts<uint64_t>(smem, lds<uint32_t>(smem));
  sts<float>(smem, static_cast<float>(lds<double>(smem)));
  syncwarp();
  syncwarp(3);
  bar_sync(1, 64);
  bar_arrive(2, 64);

  const float f = shfl_xor(x, 1) + shfl(x, 3) + shfl_up(x, 1) + shfl_down(x, 2);
  const uint64_t wide = shfl_xor(uint64_t{1}, 16);
  if (vote_any(f > 0) && vote_all(f > 1)) stg(bytes, static_cast<uint8_t>(vote_ballot(f > 2) + wide));
  stg(reinterpret_cast<float*>(out + 3), ex2(x) + lg2(x) + tanh_fast(x) + rcp_fast(x) + rsqrt_fast(x));
  const uint32_t pair = pack_bf16(x, f), fp8 = pack_e4m3(x, f);
  stg(reinterpret_cast<float*>(out + 4), bf16_lo(pair) + bf16_hi(pair) + e4m3_lo(fp8) + e4m3_hi(fp8));
  stg(reinterpret_cast<uint32_t*>(out + 5), umulhi(pair, not_hoisted(fp8)));

  cp_async16(smem, in, true);
  cp_async16_partial(smem, in, 6);
  cp_async8(smem, in, false);
  cp_async4(smem, in, true);
  cp_async_commit();
  cp_async_wait<1>();
  cp_async_wait<0>();

  uint32_t r1[1], r2[2], r4[4];
  float d[4] = {};
  ldmatrix_x1(r1, smem);
  ldmatrix_x1_trans(r1, smem + r1[0]);
  ldmatrix_x2(r2, smem);
  ldmatrix_x2_trans(r2, smem + r2[0] + r2[1]);
  ldmatrix_x4(r4, smem);
  mma_m16n8k16_bf16(d, r4, r2);
  ldmatrix_x4_trans(r4, smem);
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
  mma_m16n8k32_e4m3(d, r4, r2);
#endif
  stg(reinterpret_cast<float*>(out + 6), d[0] + d[1] + d[2] + d[3] + static_cast<float>(r1[0]));
}

FSV_KERNEL void FSV_BOUNDS(384, 1) hopper(FSV_GRID_CONSTANT TensorMap map, uint8_t* global) {
#if FSV_SM90A
  const uint32_t smem = smem_base(), bar = smem + 1024;
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
  if (threadIdx.x < 128) {
    setmaxnreg_dec<40>();
  } else {
    setmaxnreg_inc<232>();
  }
  if (elect_one()) {
    mbar_init(bar, 1);
    fence_mbar_init();
    mbar_arrive(bar);
    mbar_expect_tx(bar, 16);
    mbar_arrive_expect_tx(bar, 64);
    tma_prefetch_desc(&map);
    bulk_load(smem, global, 64, bar);
    tma_load_1d(smem, &map, bar, 1);
    tma_load_2d(smem, &map, bar, 1, 2);
    tma_load_3d(smem, &map, bar, 1, 2, 3);
    tma_load_4d(smem, &map, bar, 1, 2, 3, 4);
    tma_load_5d(smem, &map, bar, 1, 2, 3, 4, 5);
    tma_load_multicast_1d(smem, &map, bar, 3, 1);
    tma_load_multicast_2d(smem, &map, bar, 3, 1, 2);
    tma_load_multicast_3d(smem, &map, bar, 3, 1, 2, 3);
    tma_load_multicast_4d(smem, &map, bar, 3, 1, 2, 3, 4);
    tma_load_multicast_5d(smem, &map, bar, 3, 1, 2, 3, 4, 5);
    tma_load_im2col_5d(smem, &map, bar, 1, 2, 3, 4, 5, 0, 1, 2);
    tma_load_im2col_multicast_5d(smem, &map, bar, 3, 1, 2, 3, 4, 5, 0, 1, 2);
    fence_proxy_async();
    fence_proxy_async_global();
    bulk_store(global, smem, 64);
    tma_store_1d(&map, smem, 1);
    tma_store_2d(&map, smem, 1, 2);
    tma_store_3d(&map, smem, 1, 2, 3);
    tma_store_4d(&map, smem, 1, 2, 3, 4);
    tma_store_5d(&map, smem, 1, 2, 3, 4, 5);
    bulk_commit();
    bulk_wait_read<1>();
    bulk_wait<0>();
    mbar_wait(bar, 0);
    mbar_wait_cluster(bar, 0);
    if (mbar_try_wait(bar, 1)) mbar_inval(bar);
  }
  cluster_sync();
  const uint32_t peer = mapa(bar, (cluster_rank() + 1) % cluster_size());
  mbar_arrive_cluster(peer);
  sts_cluster<float>(peer + 8, lds_cluster<float>(peer + 12));
  cluster_arrive();
  cluster_wait();
  stmatrix_x1(smem, 1);
  stmatrix_x2(smem, 1, 2);
  stmatrix_x4(smem, 1, 2, 3, 4);
  stmatrix_x1_trans(smem, 1);
  stmatrix_x2_trans(smem, 1, 2);
  stmatrix_x4_trans(smem, 1, 2, 3, 4);
#endif
}

/// Every kind of product of one shape.
template <int N>
FSV_KERNEL void FSV_BOUNDS(128, 1) products(uint64_t a, uint64_t b, const uint32_t* fragment, float* out) {
#if FSV_SM90A
  float d[N / 2];
  for (int i = 0; i < N / 2; i++) d[i] = ldg(out + i);
  uint32_t registers[4];
  for (int i = 0; i < 4; i++) registers[i] = ldg(fragment + i);
  wgmma_fence(d);
  wgmma_bf16<N>(d, a, b, 0);
  wgmma_bf16<N, K_MAJOR, MN_MAJOR>(d, a, b, 1);
  wgmma_bf16<N, MN_MAJOR, K_MAJOR>(d, a, b, 1);
  wgmma_bf16<N, MN_MAJOR, MN_MAJOR>(d, a, b, 1);
  wgmma_bf16_rs<N>(d, registers, b, 1);
  wgmma_bf16_rs<N, MN_MAJOR>(d, registers, b, 1);
  wgmma_e4m3<N>(d, a, b, 1);
  wgmma_e4m3_rs<N>(d, registers, b, 1);
  wgmma_commit();
  wgmma_wait<1>();
  wgmma_wait<0>(d);
  for (int i = 0; i < N / 2; i++) stg(out + i, d[i]);
#endif
}

}  // namespace

// Host compilers drop templates and static functions that nobody names.
extern const void* const kEveryWrapper[];
const void* const kEveryWrapper[] = {
    reinterpret_cast<const void*>(&portable),      reinterpret_cast<const void*>(&hopper),
    reinterpret_cast<const void*>(&products<8>),   reinterpret_cast<const void*>(&products<16>),
    reinterpret_cast<const void*>(&products<24>),  reinterpret_cast<const void*>(&products<32>),
    reinterpret_cast<const void*>(&products<40>),  reinterpret_cast<const void*>(&products<48>),
    reinterpret_cast<const void*>(&products<56>),  reinterpret_cast<const void*>(&products<64>),
    reinterpret_cast<const void*>(&products<72>),  reinterpret_cast<const void*>(&products<80>),
    reinterpret_cast<const void*>(&products<88>),  reinterpret_cast<const void*>(&products<96>),
    reinterpret_cast<const void*>(&products<104>), reinterpret_cast<const void*>(&products<112>),
    reinterpret_cast<const void*>(&products<120>), reinterpret_cast<const void*>(&products<128>),
    reinterpret_cast<const void*>(&products<136>), reinterpret_cast<const void*>(&products<144>),
    reinterpret_cast<const void*>(&products<152>), reinterpret_cast<const void*>(&products<160>),
    reinterpret_cast<const void*>(&products<168>), reinterpret_cast<const void*>(&products<176>),
    reinterpret_cast<const void*>(&products<184>), reinterpret_cast<const void*>(&products<192>),
    reinterpret_cast<const void*>(&products<200>), reinterpret_cast<const void*>(&products<208>),
    reinterpret_cast<const void*>(&products<216>), reinterpret_cast<const void*>(&products<224>),
    reinterpret_cast<const void*>(&products<232>), reinterpret_cast<const void*>(&products<240>),
    reinterpret_cast<const void*>(&products<248>), reinterpret_cast<const void*>(&products<256>),
};
