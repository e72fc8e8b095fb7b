// The tensors that both silu_mul_quant ops take: checked, and turned into SiluMulParams.
#pragma once
#include <optional>

#include "common/silu_mul.h"
#include "common/torch_checks.h"

namespace bwdeploy {

using SiluMulEntry = int (*)(const SiluMulParams*, const SiluMulConfig*, cudaStream_t);

struct SiluMulInputs {
  const Tensor& gate;
  const Tensor& up;
  const std::optional<Tensor>& rows_per_expert;
  bool eager_rounding, pdl;
};

struct SiluMulSizes {
  int64_t rows, width, experts;  // experts: 1 without rows_per_expert
  int32_t device;
  bool bf16;
};

inline void require_row_bytes(const Tensor& tensor, const char* name) {
  require(tensor.size(0) <= 1 || tensor.stride(0) <= INT32_MAX, name,
          "row stride " + std::to_string(tensor.stride(0)), "at most 2147483647");
}

inline int64_t require_experts(const SiluMulInputs& in, int32_t device) {
  if (!in.rows_per_expert.has_value()) return 1;
  const Tensor& counts = *in.rows_per_expert;
  require_device(counts, "rows_per_expert", device);
  require_dtype(counts, "rows_per_expert", ScalarType::Int);
  require(counts.dim() == 1 && counts.size(0) > 0 && counts.is_contiguous(), "rows_per_expert",
          "shape " + shape_text(counts), "one contiguous dimension [experts]");
  require(in.gate.size(0) % counts.size(0) == 0, "gate", std::to_string(in.gate.size(0)) + " rows",
          "a multiple of the " + std::to_string(counts.size(0)) + " experts of rows_per_expert");
  return counts.size(0);
}

// The width must be a multiple of `multiple`, and at most `most`.
inline SiluMulSizes require_silu_inputs(const SiluMulInputs& in, int64_t multiple, int64_t most) {
  const int32_t device = require_cuda(in.gate, "gate");
  const bool bf16 = require_activation_dtype(in.gate, "gate");
  require_rows(in.gate, "gate");
  require_columns(in.gate, "gate", multiple, most);
  require_row_bytes(in.gate, "gate");
  const int64_t rows = in.gate.size(0), width = in.gate.size(1);
  require(rows * (width / 8) <= kMaxSiluPacks, "gate", "shape " + shape_text(in.gate),
          "rows * columns below 2^34");

  require_device(in.up, "up", device);
  require_dtype(in.up, "up", in.gate.scalar_type());
  require_shape(in.up, "up", {rows, width});
  require_rows(in.up, "up");
  require_row_bytes(in.up, "up");
  return {rows, width, require_experts(in, device), device, bf16};
}

// Launches `entry` on the current stream of the tensors' device.
inline void launch_silu(const char* op, SiluMulEntry entry, const SiluMulInputs& in,
                        const SiluMulSizes& sizes, const QuantizedRows& out) {
  if (sizes.rows == 0) return;
  const SiluMulParams params = {
      in.gate.data_ptr(),
      in.up.data_ptr(),
      in.gate.stride(0),
      in.up.stride(0),
      in.rows_per_expert.has_value() ? static_cast<const int32_t*>(in.rows_per_expert->data_ptr()) : nullptr,
      static_cast<int>(sizes.rows),
      static_cast<int>(sizes.rows / sizes.experts),
      out,
      in.eager_rounding,
      in.pdl,
  };
  const torch::stable::accelerator::DeviceGuard guard(sizes.device);
  require_launched(op, entry(&params, nullptr, current_stream(sizes.device)));
}

}  // namespace bwdeploy
