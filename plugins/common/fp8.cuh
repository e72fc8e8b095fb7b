// FP8 E4M3: eight activations divided by a scale, rounded to nearest even, saturated at 448; NaN stays NaN.
//
// The quotients are the IEEE ones, so that the bytes equal those of float32 division and conversion.
#pragma once
#include <stdint.h>

#include "common/activation.cuh"
#include "common/division.cuh"
#include "common/reduction.cuh"

namespace bwdeploy {

constexpr float kFp8Max = 448.f;
constexpr float kMinTokenScale = 1.f / (kFp8Max * 512.f);

// Two values to two bytes, `low` in the low one.
__device__ __forceinline__ uint32_t e4m3x2(float low, float high) {
  uint16_t bytes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bytes) : "f"(high), "f"(low));
  return bytes;
}

__device__ __forceinline__ float e4m3_to_float(uint32_t byte) {
  uint32_t halves;
  asm("{ .reg .b16 pair; cvt.u16.u32 pair, %1; cvt.rn.f16x2.e4m3x2 %0, pair; }" : "=r"(halves) : "r"(byte));
  return __half2float(__ushort_as_half(static_cast<unsigned short>(halves & 0xffff)));
}

__device__ __forceinline__ uint2 e4m3x8(const float (&q)[kPackWidth]) {
  return {e4m3x2(q[0], q[1]) | e4m3x2(q[2], q[3]) << 16, e4m3x2(q[4], q[5]) | e4m3x2(q[6], q[7]) << 16};
}

// Any scale, with IEEE division. Rare, so kept out of line.
template <typename T>
__device__ __noinline__ uint2 quantize_fp8_any(Pack v, float scale) {
  float q[kPackWidth];
  unpack<T>(v, q);
#pragma unroll
  for (int i = 0; i < kPackWidth; ++i) q[i] = __fdiv_rn(q[i], scale);
  return e4m3x8(q);
}

template <typename T>
__device__ __forceinline__ uint2 quantize_fp8(const Pack& v, const Divisor& scale) {
  if (!scale.fast) return quantize_fp8_any<T>(v, scale.value);
  float q[kPackWidth];
  unpack<T>(v, q);
#pragma unroll
  for (int i = 0; i < kPackWidth; ++i) {
    const float rough = q[i] * scale.reciprocal;
    // the remainder is taken as rough * scale - value, so that a zero keeps its sign
    const float exact = __fmaf_rn(-__fmaf_rn(rough, scale.value, -q[i]), scale.reciprocal, rough);
    q[i] = fabsf(rough) < 0x1p20f ? exact : rough;  // beyond, it saturates (or is NaN) either way
  }
  return e4m3x8(q);
}

// Scale of a token (row) with this largest magnitude: max(amax / 448, 1 / (448 * 512)), NaN if amax is.
__device__ __forceinline__ float token_scale(float amax) {
  constexpr float kReciprocal = 1.f / kFp8Max;
  const float rough = amax * kReciprocal;
  const float exact = __fmaf_rn(__fmaf_rn(-rough, kFp8Max, amax), kReciprocal, rough);
  return max_nan(amax < 0x1p60f ? exact : __fdiv_rn(amax, kFp8Max), kMinTokenScale);
}

}  // namespace bwdeploy
