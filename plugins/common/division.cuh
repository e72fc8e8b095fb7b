// Correctly rounded division of many values by one divisor.
//
// With r = 1/s rounded to nearest, q = x * r corrected once with the exact remainder is the IEEE quotient as
// long as nothing over- or underflows on the way (Markstein 1990). Outside of that range callers divide.
#pragma once
#include <cuda_runtime.h>

namespace bwdeploy {

struct Divisor {
  float value, reciprocal;
  bool fast;  // quotient() is exact for dividends between 2^-60 and 2^60 in magnitude, and for 0

  __device__ __forceinline__ explicit Divisor(float divisor)
      : value(divisor), fast(divisor > 0x1p-60f && divisor < 0x1p60f) {
    // what __frcp_rn does in this range, without its test for the rest: the hardware's estimate and one
    // Newton step
    float rough;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(rough) : "f"(divisor));
    reciprocal = __fmaf_rn(rough, __fmaf_rn(-rough, divisor, 1.f), rough);
  }

  __device__ __forceinline__ float quotient(float dividend) const {
    const float rough = dividend * reciprocal;
    return __fmaf_rn(__fmaf_rn(-rough, value, dividend), reciprocal, rough);
  }
};

}  // namespace bwdeploy
