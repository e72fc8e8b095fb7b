// residual_out = x + residual                                          rounded to the activation type
// normed       = residual_out * weight * rsqrt(mean(residual_out^2) + eps)
// codes        = E4M3(normed / scale)                                  nearest even, saturated at 448
//
// x, residual [rows, hidden], weight [hidden] in bf16 or fp16; rows x_stride and residual_stride elements
// apart. codes E4M3 [rows, hidden], contiguous. The scale:
//   static      one given float32; each code is the IEEE quotient, rounded
//   per token   float32 [rows], written: max(amax(normed) / 448, 1 / (448 * 512))
//
// Fused because unfused, the row travels three times (add, norm, quantize); here each element moves 7 bytes:
// x and residual in, the new residual and a code out. The matrix product that follows reads codes and scale.
// Needs: sm_90 or later (programmatic dependent launch, clusters), hidden a multiple of 8 up to 65536, data
// aligned to 16 bytes, and, launched with PDL, a weight that the kernel right before does not write.
#pragma once
#include "common/add_rmsnorm.cuh"

namespace bwdeploy {

// How to spread the rows, from sweeps on an H100 (132 multiprocessors); plugins/README.md has the times.
//  - Wider than 1024 threads of one pack: eight blocks share a row, as long as there are few rows.
//  - Up to two rows a multiprocessor: a block a row, the shortest way to its end.
//  - Else a block a row; for very wide rows as many as fit, which load the next row while they finish one.
//  - One pack a thread where latency counts and rows are narrow; two where there are many rows, or where two
//    reductions (sum and amax) make threads dear.
inline AddRmsNormConfig choose_fp8(const AddRmsNormParams& p, Mode mode, int multiprocessors) {
  const int chunks = p.out.width / kPackWidth;
  const bool per_token = mode == Mode::kFp8PerToken;
  if (chunks > 1024) {
    if (chunks > 2048 || p.rows * 4 <= multiprocessors) return {Spread::kCluster, chunks > 4096 ? 4 : 2, 8};
    if (p.rows <= multiprocessors) return {Spread::kFewRows, 4, 1};
    const bool loop = p.rows <= 6 * multiprocessors && !(per_token && p.eager_rounding);
    return {loop ? Spread::kLoop : Spread::kManyRows, 4, 1};
  }
  if (p.rows <= 2 * multiprocessors) return {Spread::kFewRows, per_token || chunks > 512 ? 2 : 1, 1};
  return {Spread::kManyRows, 2, 1};
}

}  // namespace bwdeploy
