// NVFP4: E2M1 codes, two to a byte, with an E4M3 scale for each block of 16 columns and one float32 global
// scale.
//
//   block scale = E4M3(clamp(amax / (6 * global), 2^-9, 448)), 1 for a block of zeros
//   code        = E2M1(value / (block scale * global)), nearest even, saturated at 6, sign only below zero
// as ModelOpt's NVFP4QTensor computes it, bit for bit; NaN gives +6 and a NaN scale. Blackwell converts with
// cvt.rn.satfinite.e2m1x2; before it, three exact float32 additions give the same codes.
#pragma once
#include <stdint.h>

#include "common/activation.cuh"
#include "common/division.cuh"
#include "common/fp8.cuh"

namespace bwdeploy {

constexpr int kScaleBlock = 16;  // columns that share a scale: two packs, so two neighboring lanes
constexpr float kFp4Max = 6.f;

static_assert(kScaleBlock == 2 * kPackWidth, "block_amax exchanges with one neighboring lane");

#if defined(__CUDA_ARCH_FEAT_SM100_ALL) || defined(__CUDA_ARCH_FEAT_SM103_ALL) || \
    defined(__CUDA_ARCH_FEAT_SM120_ALL)
#define BWDEPLOY_HARDWARE_E2M1 1
#else
#define BWDEPLOY_HARDWARE_E2M1 0
#endif

// 2^23 + code of a magnitude below 7. The code is the nearest integer of min(2a, a + 2, a/2 + 4): the slopes
// are the steps 1/2 below 2, 1 below 4 and 2 above, and an even code is an even integer. Adding 2^23 rounds
// each candidate once and leaves the code in the low bits.
__device__ __forceinline__ float e2m1_biased(float magnitude) {
  const float fine = __fmaf_rn(magnitude, 2.f, 8388608.f);
  const float middle = __fadd_rn(magnitude, 8388610.f);
  const float coarse = __fmaf_rn(magnitude, .5f, 8388612.f);
  return fminf(fminf(fine, middle), coarse);
}

// Any scale and any value (NaN, Inf, overflow), one element at a time with IEEE division. Rare, so kept out
// of line.
template <typename T>
__device__ __noinline__ uint32_t e2m1x8_any(Pack v, float scale) {
  const auto code = [](float quotient) {
    const uint32_t magnitude = __float_as_uint(e2m1_biased(fminf(fabsf(quotient), kFp4Max))) & 7;
    return quotient < 0.f ? magnitude | 8u : magnitude;
  };
  uint32_t codes = 0;
#pragma unroll 1
  for (int i = 3; i >= 0; --i) {
    const float2 pair = Activation<T>::unpack(v.word[3]);
    codes = codes << 8 | code(__fdiv_rn(pair.y, scale)) << 4 | code(__fdiv_rn(pair.x, scale));
    v.word[3] = v.word[2], v.word[2] = v.word[1], v.word[1] = v.word[0];
  }
  return codes;
}

// Eight finite quotients below 7 in magnitude, none of them -0; the first in the low nibble.
template <typename T>
__device__ __forceinline__ uint32_t e2m1x8(const Pack& v, const Divisor& scale) {
#if BWDEPLOY_HARDWARE_E2M1
  float q[kPackWidth];
  unpack<T>(v, q);
#pragma unroll
  for (int i = 0; i < kPackWidth; ++i) q[i] = scale.quotient(q[i]);
  uint32_t codes;
  asm("{ .reg .b8 a, b, c, d;\n"
      "cvt.rn.satfinite.e2m1x2.f32 a, %2, %1;\n"
      "cvt.rn.satfinite.e2m1x2.f32 b, %4, %3;\n"
      "cvt.rn.satfinite.e2m1x2.f32 c, %6, %5;\n"
      "cvt.rn.satfinite.e2m1x2.f32 d, %8, %7;\n"
      "mov.b32 %0, {a, b, c, d}; }"
      : "=r"(codes)
      : "f"(q[0]), "f"(q[1]), "f"(q[2]), "f"(q[3]), "f"(q[4]), "f"(q[5]), "f"(q[6]), "f"(q[7]));
  return codes;
#else
  uint32_t biased[kPackWidth];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 magnitude = Activation<T>::unpack(v.word[i] & 0x7fff7fffu);
    biased[2 * i] = __float_as_uint(e2m1_biased(scale.quotient(magnitude.x)));
    biased[2 * i + 1] = __float_as_uint(e2m1_biased(scale.quotient(magnitude.y)));
  }
  // each shifted sum carries 0x4b000000, the bits of 2^23, along: 0x4b000000 * (1 + 16) = 0xfb000000 (mod
  // 2^32)
  const uint32_t low = (biased[1] << 4) + biased[0] + (((biased[3] << 4) + biased[2]) << 8);
  const uint32_t high = (biased[5] << 4) + biased[4] + (((biased[7] << 4) + biased[6]) << 8);
  const uint32_t codes = low + (high << 16) - 0xfb000000u;
  // the sign bytes of the even and of the odd elements, one byte for each pair
  const uint32_t first = __byte_perm(v.word[0], v.word[1], 0x7351);
  const uint32_t second = __byte_perm(v.word[2], v.word[3], 0x7351);
  const uint32_t even = __byte_perm(first, second, 0x5410), odd = __byte_perm(first, second, 0x7632);
  return codes + (((even >> 4) & 0x08080808u) | (odd & 0x80808080u));
#endif
}

struct GlobalScale {
  float value;
  Divisor six;  // 6 * value, what a block's amax is divided by
  bool exact;   // six.quotient() may be used for the scale of a block

  __device__ __forceinline__ explicit GlobalScale(float scale)
      : value(scale), six(kFp4Max * scale), exact(six.fast && six.value < 0x1p10f) {}
};

// Largest magnitude of the block of 16 that lanes 2i and 2i + 1 hold; all 32 lanes call.
template <typename T>
__device__ __forceinline__ float block_amax(const Pack& v) {
  const uint32_t own = pack_magnitude<T>(v);
  return magnitude_to_float<T>(__vmaxu2(own, __shfl_xor_sync(~0u, own, 1)));
}

struct Nvfp4 {
  uint32_t codes;  // eight, the first in the low nibble
  uint32_t scale;  // E4M3 byte of the block, the same in both of its lanes
};

// Eight activations of a lane, and the amax of their block.
template <typename T>
__device__ __forceinline__ Nvfp4 quantize_nvfp4(const Pack& v, float amax, const GlobalScale& global) {
  Pack unsigned_zeros;
#pragma unroll
  for (int i = 0; i < 4; ++i) unsigned_zeros.word[i] = Activation<T>::add(v.word[i], 0);  // -0 becomes 0

  float scale =
      global.exact && amax < 0x1p60f ? global.six.quotient(amax) : __fdiv_rn(amax, global.six.value);
  scale = scale == 0.f ? 1.f : scale;
  scale = scale < 0x1p-9f ? 0x1p-9f : scale;
  const uint32_t byte = e4m3x2(scale, 0.f) & 0xffu;

  const Divisor divisor(__fmul_rn(e4m3_to_float(byte), global.value));
  const bool ordinary = divisor.fast && amax < 6.9f * divisor.value;
  return {ordinary ? e2m1x8<T>(unsigned_zeros, divisor) : e2m1x8_any<T>(unsigned_zeros, divisor.value), byte};
}

}  // namespace bwdeploy
