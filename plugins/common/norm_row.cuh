// RMSNorm and quantization of a row that stands in registers, spread over a block or over a cluster of
// blocks.
//
//   normed = row * weight * rsqrt(mean(row^2) + eps), rounded to the activation type;  codes, scales =
//   quantize(normed)
//
// Each thread holds K packs of the row and the same packs of the weight. The row is reduced with one barrier.
// Two rounding orders: one rounding of (row * weight) * rstd; or, EAGER, row * rstd rounded and then its
// product with the weight rounded, as a Hugging Face model computes it.
//
// Without EAGER the largest |normed| follows from the largest |row * weight|, because multiplying by rstd and
// rounding keep the order. So the amax of a token, and of a block of 16 when K is 1, is gathered before the
// barrier, where it costs nothing. With EAGER it has to come from the rounded values; so it has when the sum
// of squares overflows.
#pragma once
#include "common/activation.cuh"
#include "common/quantizer.cuh"
#include "common/reduction.cuh"

namespace bwdeploy {

// The chunks of a row that a thread holds: first, first + step, ... K of them, those below `chunks` real.
template <int K>
struct RowSlice {
  int first, step, chunks;

  __device__ __forceinline__ RowSlice(const RowTeam& team, int width)
      : first(team.rank * static_cast<int>(blockDim.x) * K + static_cast<int>(threadIdx.x)),
        step(static_cast<int>(blockDim.x)),
        chunks(width >> 3) {}  // of kPackWidth

  __device__ __forceinline__ int chunk(int k) const { return first + k * step; }
  __device__ __forceinline__ bool active(int k) const { return chunk(k) < chunks; }
};

// NOW: before anything that follows, for the shortest time; else where registers are cheapest, for the most
// blocks.
template <typename T, int K, bool NOW = true>
__device__ __forceinline__ void load_weight(const void* weight, const RowSlice<K>& slice, Pack (&packs)[K]) {
#pragma unroll
  for (int k = 0; k < K; ++k) {
    packs[k] = Pack{};
    if (!slice.active(k)) continue;
    const T* at = static_cast<const T*>(weight) + slice.chunk(k) * kPackWidth;
    packs[k] = NOW ? load_constant_now(at) : load_constant(at);
  }
}

template <typename T>
__device__ __forceinline__ float sum_of_squares(const Pack& v) {
  float2 squares = {0.f, 0.f};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = Activation<T>::unpack(v.word[i]);
    squares.x = fmaf(pair.x, pair.x, squares.x);
    squares.y = fmaf(pair.y, pair.y, squares.y);
  }
  return squares.x + squares.y;
}

// Largest |row * weight|, NaN if any product is.
template <typename T>
__device__ __forceinline__ float largest_product(const Pack& row, const Pack& weight) {
  float largest = 0.f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 v = Activation<T>::unpack(row.word[i]), w = Activation<T>::unpack(weight.word[i]);
    largest = max_nan(largest, max_nan(fabsf(v.x * w.x), fabsf(v.y * w.y)));
  }
  return largest;
}

template <typename T, bool EAGER>
__device__ __forceinline__ Pack normalize(const Pack& row, const Pack& weight, float rstd) {
  Pack normed;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t weight_word = weight.word[i];
    asm("" : "+r"(weight_word));  // else the products of largest_product() are kept in registers until here
    float2 v = Activation<T>::unpack(row.word[i]);
    const float2 w = Activation<T>::unpack(weight_word);
    if constexpr (EAGER) {
      v = Activation<T>::unpack(Activation<T>::pack(v.x * rstd, v.y * rstd));
      normed.word[i] = Activation<T>::pack(v.x * w.x, v.y * w.y);
    } else {
      normed.word[i] = Activation<T>::pack(v.x * w.x * rstd, v.y * w.y * rstd);
    }
  }
  return normed;
}

// A row whose sum of squares overflowed has rstd 0, and float32 arithmetic gives zeros (NaN for infinite
// values). Here the weight comes first, and the product could overflow too and give NaN, so such a row is
// multiplied by 0 before.
template <typename T>
__device__ __forceinline__ Pack vanish(const Pack& row, const Pack& weight) {
  Pack normed;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 v = Activation<T>::unpack(row.word[i]), w = Activation<T>::unpack(weight.word[i]);
    normed.word[i] = Activation<T>::pack(v.x * 0.f * w.x, v.y * 0.f * w.y);
  }
  return normed;
}

// What normalize_and_quantize() writes and the constants it needs.
struct NormOutput {
  void* normed;  // activations [rows, width], contiguous; or null
  QuantizedRows quantized;
  float eps, inverse_width;
};

// Shared memory of a row's reductions. A loop over rows alternates between two of them, so that one barrier a
// row is enough.
template <Mode MODE, bool CLUSTER>
struct NormShared {
  Partials<CLUSTER> squares;
  Partials<CLUSTER> maxima;  // used per token only
};

// `row_packs` is this thread's part of row `row`, zero where not active; `given` the given or the global
// scale. Every thread of the team calls; with CLUSTER, once all its blocks are known to run.
template <typename T, int K, Mode MODE, bool CLUSTER, bool EAGER>
__device__ __forceinline__ void normalize_and_quantize(const NormOutput& to,
                                                       NormShared<MODE, CLUSTER>& shared, const RowTeam& team,
                                                       const RowSlice<K>& slice, int row,
                                                       const Pack (&row_packs)[K], const Pack (&weight)[K],
                                                       float given) {
  constexpr bool kPerToken = MODE == Mode::kFp8PerToken;
  constexpr bool kTokenAmaxEarly = kPerToken && !EAGER;
  constexpr bool kBlockAmaxEarly = kIsNvfp4<MODE> && K == 1 && !EAGER;

  // 1. What this thread adds to the row's results.
  float squares = 0.f, largest = 0.f;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    squares += sum_of_squares<T>(row_packs[k]);
    if constexpr (kTokenAmaxEarly || kBlockAmaxEarly)
      largest = max_nan(largest, largest_product<T>(row_packs[k], weight[k]));
  }
  if constexpr (kBlockAmaxEarly) largest = max_nan(largest, __shfl_xor_sync(~0u, largest, 1));

  // 2. Reduce over the row: one barrier.
  shared.squares.put(team, warp_reduce<Sum>(squares));
  if constexpr (kTokenAmaxEarly) shared.maxima.put(team, warp_reduce<Maximum>(largest));
  row_barrier<CLUSTER>();
  const float mean_square = shared.squares.template combine<Sum>(team) * to.inverse_width;
  const float rstd = rsqrtf(mean_square + to.eps);
  const bool overflowed = rstd == 0.f;  // the same in every thread of the team

  const auto normed = [&](int k) {
    if (!EAGER && overflowed) return vanish<T>(row_packs[k], weight[k]);
    return normalize<T, EAGER>(row_packs[k], weight[k], rstd);
  };

  // 3. The scale to quantize with.
  float scale = given;
  if constexpr (kPerToken) {
    float amax;
    if (EAGER || overflowed) {
      uint32_t magnitude = 0;
#pragma unroll
      for (int k = 0; k < K; ++k)
        magnitude = __vmaxu2(magnitude, pack_magnitude<T>(EAGER ? normed(k) : row_packs[k]));
      const float own = magnitude_to_float<T>(magnitude);
      shared.maxima.put(team, warp_reduce<Maximum>(EAGER ? own : own * 0.f));
      row_barrier<CLUSTER>();
      amax = shared.maxima.template combine<Maximum>(team);
    } else {
      amax = rounded<T>(shared.maxima.template combine<Maximum>(team) * rstd);
    }
    scale = token_scale(amax);
    if (threadIdx.x == 0 && team.rank == 0) static_cast<float*>(to.quantized.scales)[row] = scale;
  }

  // 4. Normalize, quantize, store.
  const Quantizer<T, MODE> quantizer(scale);
#pragma unroll
  for (int k = 0; k < K; ++k) {
    const Pack v = normed(k);
    const int chunk = slice.chunk(k);
    const int64_t at = static_cast<int64_t>(row) * to.quantized.width + chunk * kPackWidth;
    if (to.normed && slice.active(k)) store(static_cast<T*>(to.normed) + at, v);
    if constexpr (kBlockAmaxEarly) {
      const float amax = overflowed ? block_amax<T>(v) : rounded<T>(largest * rstd);
      quantizer.store(to.quantized, row, chunk, v, slice.active(k), amax);
    } else {
      quantizer.store(to.quantized, row, chunk, v, slice.active(k));
    }
  }
  if constexpr (MODE == Mode::kNvfp4Swizzled) {
    if (team.rank == 0) clear_padding_columns(to.quantized.scales, row, to.quantized.width >> 4, threadIdx.x);
  }
}

}  // namespace bwdeploy
