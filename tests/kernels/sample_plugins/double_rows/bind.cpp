// The torch side of the sample op.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cuda_runtime.h>

using torch::stable::Tensor;

extern "C" int bwdeploy_double_rows_float(const void* x, void* out, int count, cudaStream_t stream);

namespace {
Tensor double_rows(Tensor x) {
  STD_TORCH_CHECK(x.dim() == 2, "x: got ", x.dim(), " dimensions, wanted 2");
  Tensor out = torch::stable::empty_like(x);
  const int status = bwdeploy_double_rows_float(x.data_ptr(), out.data_ptr(), static_cast<int>(x.numel()), nullptr);
  STD_TORCH_CHECK(status == 0, "double_rows: got CUDA error ", status, ", wanted a launch");
  return out;
}

int64_t double_rows_calls(int64_t device) {
  STD_TORCH_CHECK(device >= 0, "device: got ", device, ", wanted 0 or above");
  return 0;
}
}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(bwdeploy, m) {
  m.def("double_rows(Tensor x) -> Tensor");
  m.def("double_rows_calls(int device) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CUDA, m) { m.impl("double_rows", TORCH_BOX(&double_rows)); }

STABLE_TORCH_LIBRARY_IMPL(bwdeploy, CompositeExplicitAutograd, m) {
  m.impl("double_rows_calls", TORCH_BOX(&double_rows_calls));
}
