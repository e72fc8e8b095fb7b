// The tensors that both add_rmsnorm_quant ops take: checked, and turned into AddRmsNormParams.
#pragma once
#include "common/add_rmsnorm.h"
#include "common/torch_checks.h"

namespace bwdeploy {

using AddRmsNormEntry = int (*)(const AddRmsNormParams*, const AddRmsNormConfig*, cudaStream_t);

struct NormInputs {
  const Tensor& x;
  const Tensor& residual;
  const Tensor& weight;
  double eps;
  bool eager_rounding, pdl;
};

struct NormSizes {
  int64_t rows, hidden;
  int32_t device;
  bool bf16;
};

// hidden must be a multiple of `multiple`.
inline NormSizes require_norm_inputs(const NormInputs& in, int64_t multiple) {
  const NormSizes sizes = {0, 0, require_cuda(in.x, "x"), require_activation_dtype(in.x, "x")};
  require_rows(in.x, "x");
  require_columns(in.x, "x", multiple, kMaxHidden);
  const int64_t rows = in.x.size(0), hidden = in.x.size(1);

  require_device(in.residual, "residual", sizes.device);
  require_dtype(in.residual, "residual", in.x.scalar_type());
  require_shape(in.residual, "residual", {rows, hidden});
  require_rows(in.residual, "residual");

  require_device(in.weight, "weight", sizes.device);
  require_dtype(in.weight, "weight", in.x.scalar_type());
  require_shape(in.weight, "weight", {hidden});
  require_contiguous(in.weight, "weight");
  require(in.eps >= 0, "eps", in.eps, "a number not below 0");
  return {rows, hidden, sizes.device, sizes.bf16};
}

inline AddRmsNormParams norm_params(const NormInputs& in, const NormSizes& sizes, const Tensor& residual_out,
                                    const Tensor& normed, const QuantizedRows& out) {
  return {
      in.x.data_ptr(),
      in.residual.data_ptr(),
      in.weight.data_ptr(),
      residual_out.data_ptr(),
      normed.numel() == 0 ? nullptr : normed.data_ptr(),
      out,
      in.x.stride(0),
      in.residual.stride(0),
      residual_out.stride(0),
      static_cast<int>(sizes.rows),
      static_cast<float>(in.eps),
      in.eager_rounding,
      in.pdl,
  };
}

// Launches `entry` on the current stream of the tensors' device.
inline void launch_norm(const char* op, AddRmsNormEntry entry, const NormSizes& sizes,
                        const AddRmsNormParams& params) {
  if (sizes.rows == 0) return;
  const torch::stable::accelerator::DeviceGuard guard(sizes.device);
  require_launched(op, entry(&params, nullptr, current_stream(sizes.device)));
}

}  // namespace bwdeploy
