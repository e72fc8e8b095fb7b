// What the torch bindings share: refusals that say name, got and wanted; new tensors; the current stream and
// device.
//
// Only torch's stable ABI of 2.9 is used, so that a library serves that torch and every later one, and
// nothing of libtorch_cuda at link time, so that it also loads where there is no GPU.
#pragma once
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

namespace bwdeploy {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kAlignmentBytes = 16;

inline std::string shape_text(const Tensor& tensor) {
  std::ostringstream text;
  text << "[";
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i == 0 ? "" : ", ") << tensor.size(i);
  text << "]";
  return text.str();
}

// Throws "name: got ..., wanted ..." unless ok; every part may be anything that prints.
template <typename Got, typename Wanted>
void require(bool ok, const char* name, const Got& got, const Wanted& wanted) {
  if (ok) return;
  std::ostringstream message;
  message << name << ": got " << got << ", wanted " << wanted;
  throw std::runtime_error(message.str());
}

inline std::string dtype_text(ScalarType type) {
  return std::string("dtype ") + torch::headeronly::toString(type);
}

inline void require_dtype(const Tensor& tensor, const char* name, ScalarType wanted) {
  require(tensor.scalar_type() == wanted, name, dtype_text(tensor.scalar_type()), dtype_text(wanted));
}

// bf16 or fp16; returns true for bf16.
inline bool require_activation_dtype(const Tensor& tensor, const char* name) {
  const ScalarType type = tensor.scalar_type();
  require(type == ScalarType::BFloat16 || type == ScalarType::Half, name, dtype_text(type),
          "dtype BFloat16 or Half");
  return type == ScalarType::BFloat16;
}

// Returns the index of the CUDA device the tensor is on.
inline int32_t require_cuda(const Tensor& tensor, const char* name) {
  require(tensor.is_cuda(), name, "a tensor that is not on a CUDA device", "one that is");
  return tensor.get_device_index();
}

inline void require_device(const Tensor& tensor, const char* name, int32_t device) {
  require(require_cuda(tensor, name) == device, name, "cuda:" + std::to_string(tensor.get_device_index()),
          "cuda:" + std::to_string(device) + " like the first argument");
}

inline void require_shape(const Tensor& tensor, const char* name, std::initializer_list<int64_t> wanted) {
  bool same = tensor.dim() == static_cast<int64_t>(wanted.size());
  std::ostringstream text;
  text << "shape [";
  int64_t axis = 0;
  for (const int64_t size : wanted) {
    same = same && tensor.size(axis) == size;
    text << (axis++ == 0 ? "" : ", ") << size;
  }
  text << "]";
  require(same, name, "shape " + shape_text(tensor), text.str());
}

inline void require_aligned(const Tensor& tensor, const char* name) {
  if (tensor.numel() == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  require(address % kAlignmentBytes == 0, name,
          "data " + std::to_string(address % kAlignmentBytes) + " bytes past a multiple of 16",
          "data aligned to 16 bytes");
}

// Activations [rows, width], inner stride 1, rows `stride(0)` apart: at least width and a multiple of 8
// elements.
inline void require_rows(const Tensor& tensor, const char* name) {
  require(tensor.dim() == 2, name, "shape " + shape_text(tensor), "two dimensions [rows, columns]");
  const int64_t rows = tensor.size(0), columns = tensor.size(1), stride = tensor.stride(0);
  require(columns <= 1 || tensor.stride(1) == 1, name, "column stride " + std::to_string(tensor.stride(1)),
          "column stride 1");
  require(rows <= 1 || (stride >= columns && stride % 8 == 0), name, "row stride " + std::to_string(stride),
          "a multiple of 8, at least " + std::to_string(columns));
  require(rows <= INT32_MAX, name, std::to_string(rows) + " rows", "at most 2147483647");
  require_aligned(tensor, name);
}

inline void require_columns(const Tensor& tensor, const char* name, int64_t multiple, int64_t most) {
  const int64_t columns = tensor.size(1);
  require(columns > 0 && columns % multiple == 0 && columns <= most, name,
          std::to_string(columns) + " columns",
          "a multiple of " + std::to_string(multiple) + " from " + std::to_string(multiple) + " to " +
              std::to_string(most));
}

inline void require_contiguous(const Tensor& tensor, const char* name) {
  require(tensor.is_contiguous(), name, "a tensor that is not contiguous", "a contiguous one");
  require_aligned(tensor, name);
}

// A float32 scale in device memory, of `count` elements.
inline const float* require_scale(const Tensor& tensor, const char* name, int32_t device, int64_t count = 1) {
  require_device(tensor, name, device);
  require_dtype(tensor, name, ScalarType::Float);
  require_shape(tensor, name, {count});
  require(tensor.is_contiguous(), name, "a tensor that is not contiguous", "a contiguous one");
  return static_cast<const float*>(tensor.data_ptr());
}

inline Tensor new_tensor(const Tensor& like, std::initializer_list<int64_t> shape, ScalarType type) {
  return torch::stable::new_empty(like, {shape.begin(), shape.size()}, type);
}

// E4M3 block scales of [rows, width]: linear [rows, width / 16], or swizzled, padded to tiles of 128 x 4.
inline Tensor new_block_scales(const Tensor& like, int64_t rows, int64_t width, bool swizzled) {
  const int64_t columns = width / 16;
  if (!swizzled) return new_tensor(like, {rows, columns}, ScalarType::Float8_e4m3fn);
  return new_tensor(like, {(rows + 127) / 128 * 128, (columns + 3) / 4 * 4}, ScalarType::Float8_e4m3fn);
}

// PyTorch's current stream of the device. Looked up at the first call: libtorch_cuda is loaded by then.
inline cudaStream_t current_stream(int32_t device) {
  using Lookup = int32_t (*)(int32_t, void**);
  static const Lookup lookup = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* symbol = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
    require(symbol != nullptr, "torch", "a build without CUDA", "libtorch_cuda loaded");
    return reinterpret_cast<Lookup>(symbol);
  }();
  void* stream = nullptr;
  require(lookup(device, &stream) == 0, "torch", "no current stream",
          "one on cuda:" + std::to_string(device));
  return static_cast<cudaStream_t>(stream);
}

// What a launch returned: throws with the op's name and CUDA's own words.
inline void require_launched(const char* op, int error) {
  require(error == cudaSuccess, op,
          std::string("CUDA error ") + cudaGetErrorString(static_cast<cudaError_t>(error)),
          "a kernel launch on this device");
}

// An op's launches on one device: the sum over its translation units (calls.cuh).
inline int64_t counted_calls(const char* op, int64_t device,
                             std::initializer_list<int (*)(unsigned long long*)> units) {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  require(error == cudaSuccess, op, std::string("CUDA error ") + cudaGetErrorString(error), "a CUDA device");
  require(device >= 0 && device < devices, op, "device " + std::to_string(device),
          "0 to " + std::to_string(devices - 1));
  const torch::stable::accelerator::DeviceGuard guard(static_cast<int32_t>(device));
  unsigned long long total = 0;
  for (const auto unit : units) {
    unsigned long long calls = 0;
    require_launched(op, unit(&calls));
    total += calls;
  }
  return static_cast<int64_t>(total);
}

}  // namespace bwdeploy
