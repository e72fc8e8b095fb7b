// The four ways an op quantizes, and what it is given and writes for each. Plain C++: bindings include it
// too.
#pragma once

namespace bwdeploy {

enum class Mode : int {
  kFp8Static,      // E4M3, one given scale
  kFp8PerToken,    // E4M3, the scale of each row computed and written
  kNvfp4Linear,    // E2M1 in blocks of 16, scales row-major
  kNvfp4Swizzled,  // E2M1 in blocks of 16, scales in tiles of 128 x 4
};

template <Mode MODE>
inline constexpr bool kIsNvfp4 = MODE == Mode::kNvfp4Linear || MODE == Mode::kNvfp4Swizzled;

// Quantized rows of `width` columns: codes contiguous, scales laid out as the mode says (scale_layout.cuh).
struct QuantizedRows {
  void* codes;         // E4M3 [rows, width], or two E2M1 to a byte [rows, width / 2]
  void* scales;        // per token: float32 [rows]; NVFP4: E4M3; static: not used
  const float* given;  // static: the scale; NVFP4: the global scale; per token: not used
  int width;
};

}  // namespace bwdeploy
