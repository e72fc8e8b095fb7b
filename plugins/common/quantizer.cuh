// One quantizer for each mode: eight activations of a thread in, codes and scales of QuantizedRows out.
//
// Quantizer<T, MODE>(scale) takes what the mode divides by: the given scale, the token's scale, or the global
// scale. store() writes chunk `chunk` (columns 8c to 8c + 7) of `row` unless `active` is false; with NVFP4
// all lanes of the warp must call it, lanes 2i and 2i + 1 with the two chunks of a block.
#pragma once
#include "common/activation.cuh"
#include "common/fp4.cuh"
#include "common/fp8.cuh"
#include "common/mode.h"
#include "common/scale_layout.cuh"

namespace bwdeploy {

template <typename T, Mode MODE>
struct Quantizer {
  static_assert(!kIsNvfp4<MODE>, "NVFP4 has its own quantizer");
  Divisor scale;

  __device__ __forceinline__ explicit Quantizer(float scale_) : scale(scale_) {}

  __device__ __forceinline__ void store(const QuantizedRows& to, int row, int chunk, const Pack& v,
                                        bool active) const {
    const uint2 codes = quantize_fp8<T>(v, scale);
    const int64_t at = static_cast<int64_t>(row) * to.width + chunk * kPackWidth;
    if (active) *reinterpret_cast<uint2*>(static_cast<uint8_t*>(to.codes) + at) = codes;
  }
};

static_assert(kScaleBlock == 1 << 4, "to.width >> 4 is the number of blocks");

template <typename T, Mode MODE>
struct Nvfp4Quantizer {
  GlobalScale global;

  __device__ __forceinline__ explicit Nvfp4Quantizer(float global_scale) : global(global_scale) {}

  __device__ __forceinline__ void store(const QuantizedRows& to, int row, int chunk, const Pack& v,
                                        bool active) const {
    store(to, row, chunk, v, active, block_amax<T>(v));
  }

  // With the amax of the block known already. Shifts, because a signed division by 2 or 16 is several
  // instructions.
  __device__ __forceinline__ void store(const QuantizedRows& to, int row, int chunk, const Pack& v,
                                        bool active, float amax) const {
    const Nvfp4 quantized = quantize_nvfp4<T>(v, amax, global);
    if (!active) return;
    store_codes(to, row, chunk, quantized.codes);
    if ((chunk & 1) == 0)
      static_cast<uint8_t*>(to.scales)[scale_offset<MODE>(row, chunk >> 1, to.width >> 4)] = quantized.scale;
  }

  __device__ __forceinline__ void store_codes(const QuantizedRows& to, int row, int chunk,
                                              uint32_t codes) const {
    const int64_t at = static_cast<int64_t>(row) * (to.width >> 1) + chunk * (kPackWidth / 2);
    *reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(to.codes) + at) = codes;
  }
};

template <typename T>
struct Quantizer<T, Mode::kNvfp4Linear> : Nvfp4Quantizer<T, Mode::kNvfp4Linear> {
  using Nvfp4Quantizer<T, Mode::kNvfp4Linear>::Nvfp4Quantizer;
};
template <typename T>
struct Quantizer<T, Mode::kNvfp4Swizzled> : Nvfp4Quantizer<T, Mode::kNvfp4Swizzled> {
  using Nvfp4Quantizer<T, Mode::kNvfp4Swizzled>::Nvfp4Quantizer;
};

}  // namespace bwdeploy
