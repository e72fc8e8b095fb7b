// residual_out = x + residual                                          rounded to the activation type
// normed       = residual_out * weight * rsqrt(mean(residual_out^2) + eps)
// scale[b]     = E4M3(clamp(amax(normed in block b) / (6 * global), 2^-9, 448)), 1 for a block of zeros
// codes        = E2M1(normed / (scale * global))                       nearest even, saturated at 6
//
// x, residual [rows, hidden], weight [hidden] in bf16 or fp16; rows x_stride and residual_stride elements
// apart. codes [rows, hidden / 2], two to a byte, the even column in the low nibble. Blocks are 16 columns of
// a row. global is one given float32, amax / (6 * 448) as ModelOpt writes input_scale. Scales E4M3, linear
// [rows, hidden / 16] or swizzled in tiles of 128 x 4 with zeros as padding (common/scale_layout.cuh).
//
// Fused because unfused, the row travels three times (add, norm, quantize); here each element moves 6.56
// bytes. The block-scaled matrix product that follows reads codes and scales as they are.
// Needs: sm_90 or later (programmatic dependent launch, clusters; FP4 conversion in hardware from sm_100a),
// hidden a multiple of 16 up to 65536, data aligned to 16 bytes, and, launched with PDL, a weight that the
// kernel right before does not write.
#pragma once
#include "common/add_rmsnorm.cuh"

namespace bwdeploy {

// How to spread the rows, from sweeps on an H100 (132 multiprocessors); plugins/README.md has the times.
//  - A few wide rows: eight blocks share a row, so that its latency is that of an eighth.
//  - Up to one row a multiprocessor, or two narrow ones: a block a row, the shortest way to its end.
//  - Up to eight: as many blocks as fit load the next row while they finish one.
//  - One pack a thread as far as 1024 threads reach: its block amax is known before the reduction ends. Four
//    where there are many wide rows.
inline AddRmsNormConfig choose_nvfp4(const AddRmsNormParams& p, int multiprocessors) {
  const int chunks = p.out.width / kPackWidth;
  const bool eighths_fit = p.rows * 8 <= multiprocessors;
  if (chunks > 2048) return {Spread::kCluster, chunks > 4096 ? 4 : 2, 8};
  if (chunks > 1024 && p.rows * 4 <= multiprocessors) return {Spread::kCluster, eighths_fit ? 1 : 2, 8};
  if (chunks > 1024 && p.rows * 2 <= multiprocessors) return {Spread::kCluster, 2, 2};
  if (chunks > 768 && eighths_fit) return {Spread::kCluster, 1, 8};

  const int packs = chunks > 1024 ? 4 : 1;
  if (p.rows <= (chunks <= 640 ? 2 : 1) * multiprocessors) return {Spread::kFewRows, packs, 1};
  if (p.rows <= 8 * multiprocessors) return {Spread::kLoop, packs, 1};
  return {Spread::kManyRows, chunks > 768 ? 4 : 1, 1};
}

}  // namespace bwdeploy
