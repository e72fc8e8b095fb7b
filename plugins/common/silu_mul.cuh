// SwiGLU on packs, and where a thread's packs lie.
//
//   silu(g) = g / (1 + exp(-g));  product = silu(g) * u, rounded once to the activation type
// By default exp and the reciprocal are the hardware's approximations: silu is off by less than 2^-17 of
// itself, far below the rounding to bf16 or fp16; beyond g = -87.3, where |silu| < 1e-36, it is -0. With
// EAGER, silu(g) is rounded to the activation type before the product, and computed with the functions that
// PyTorch's own CUDA operations use, so that the product has their bits. exp(-g) may overflow either way: g /
// inf is -0, not NaN.
#pragma once
#include "common/activation.cuh"
#include "common/launch.cuh"
#include "common/silu_mul.h"

namespace bwdeploy {

template <bool EAGER>
__device__ __forceinline__ float silu(float gate) {
  if constexpr (EAGER) return __fdiv_rn(gate, 1.f + expf(-gate));
  constexpr float kMinusLog2E = -1.44269504f;
  float exponential, reciprocal;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(exponential) : "f"(gate * kMinusLog2E));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(1.f + exponential));
  return gate * reciprocal;
}

template <typename T, bool EAGER>
__device__ __forceinline__ Pack silu_mul(const Pack& gate, const Pack& up) {
  Pack product;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 g = Activation<T>::unpack(gate.word[i]), u = Activation<T>::unpack(up.word[i]);
    float2 s = {silu<EAGER>(g.x), silu<EAGER>(g.y)};
    if constexpr (EAGER) s = Activation<T>::unpack(Activation<T>::pack(s.x, s.y));
    product.word[i] = Activation<T>::pack(s.x * u.x, s.y * u.y);
  }
  return product;
}

// n / divisor for n below 2^31 by one multiplication. With s = ceil(log2(divisor)), the multiplier
// m = ceil(2^(31 + s) / divisor) times the divisor exceeds 2^(31 + s) by less than 2^s, so n * m / 2^(31 + s)
// lies less than 1 / divisor above n / divisor.
struct IndexDivisor {
  uint32_t divisor, multiplier, shift;

  __host__ explicit IndexDivisor(uint32_t divisor_) : divisor(divisor_), multiplier(0), shift(0) {
    while ((uint64_t{1} << shift) < divisor) ++shift;
    multiplier = static_cast<uint32_t>(((uint64_t{1} << (31 + shift)) + divisor - 1) / divisor);
  }

  __device__ __forceinline__ uint32_t quotient(uint32_t n) const {
    return __umulhi(2 * n, multiplier) >> shift;
  }
};

constexpr int kActivationBytes = sizeof(Pack) / kPackWidth;

// What a kernel gets: the parameters and what follows from them.
struct SiluMulKernelParams {
  SiluMulParams given;
  IndexDivisor by_packs;     // packs of a row
  IndexDivisor by_capacity;  // rows of an expert
  uint32_t gate_row_bytes, up_row_bytes;
  Trigger trigger;
  int row_blocks;  // blocks that work on rows; any others clear scale padding

  __host__ SiluMulKernelParams(const SiluMulParams& params, Trigger trigger_, int row_blocks_)
      : given(params),
        by_packs(params.out.width / kPackWidth),
        by_capacity(params.capacity),
        gate_row_bytes(static_cast<uint32_t>(params.gate_stride * kActivationBytes)),
        up_row_bytes(static_cast<uint32_t>(params.up_stride * kActivationBytes)),
        trigger(trigger_),
        row_blocks(row_blocks_) {}
};

inline int64_t total_packs(const SiluMulParams& p) {
  return static_cast<int64_t>(p.rows) * (p.out.width / kPackWidth);
}

constexpr int kMaxFlatThreads = 512;

inline bool flat_threads_fit(const SiluMulConfig& config) {
  return config.threads > 0 && config.threads % 32 == 0 && config.threads <= kMaxFlatThreads;
}

// Blocks that take all packs once, without regard to rows.
inline int flat_blocks(const SiluMulParams& p, const SiluMulConfig& config) {
  const int64_t per_block = int64_t{config.threads} * config.packs;
  return static_cast<int>((total_packs(p) + per_block - 1) / per_block);
}

// The expert of a row; `active` becomes false if the row is one that the expert does not have. After
// pdl_wait() only.
__device__ __forceinline__ uint32_t expert_of(const SiluMulKernelParams& p, uint32_t row, bool& active) {
  if (!active) return 0;
  const uint32_t expert = p.by_capacity.quotient(row);
  active = static_cast<int>(row - expert * p.by_capacity.divisor) < __ldg(p.given.rows_per_expert + expert);
  return expert;
}

// Pack `pack` of `row`, zeros if not `active`.
__device__ __forceinline__ Pack load_pack(const void* matrix, uint32_t row_bytes, uint32_t row, uint32_t pack,
                                          bool active) {
  const uint64_t offset = static_cast<uint64_t>(row) * row_bytes + pack * static_cast<uint32_t>(sizeof(Pack));
  return active ? load(static_cast<const char*>(matrix) + offset) : Pack{};
}

// Packs without regard to rows: thread t of block b takes packs t, t + threads, ... of the block's share.
template <int PACKS, bool GROUPED>
struct FlatPacks {
  uint32_t row[PACKS], pack[PACKS];
  bool active[PACKS];
  float scale[PACKS];  // given, of the row's expert
  Pack gate[PACKS], up[PACKS];

  // Needs nothing that an earlier kernel writes.
  __device__ __forceinline__ explicit FlatPacks(const SiluMulKernelParams& p) {
    const uint32_t total = p.given.rows * p.by_packs.divisor;
#pragma unroll
    for (int k = 0; k < PACKS; ++k) {
      const uint32_t index = (blockIdx.x * PACKS + k) * blockDim.x + threadIdx.x;
      active[k] = index < total;
      row[k] = p.by_packs.quotient(index);
      pack[k] = index - row[k] * p.by_packs.divisor;
    }
  }

  __device__ __forceinline__ void load_rows(const SiluMulKernelParams& p) {
#pragma unroll
    for (int k = 0; k < PACKS; ++k) {
      uint32_t expert = 0;
      if constexpr (GROUPED) expert = expert_of(p, row[k], active[k]);
      scale[k] = __ldg(p.given.out.given + expert);
      gate[k] = load_pack(p.given.gate, p.gate_row_bytes, row[k], pack[k], active[k]);
      up[k] = load_pack(p.given.up, p.up_row_bytes, row[k], pack[k], active[k]);
    }
  }
};

}  // namespace bwdeploy
