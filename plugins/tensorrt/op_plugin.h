// What one op looks like to TensorRT, and the plugin and creator that all ops share.
//
// An Op is a table: its name, the fields a network may set, its inputs and outputs for those options, and the
// call of its kernel. OpPlugin turns it into an IPluginV3, OpCreator into an IPluginCreatorV3One. Every
// tensor is linear; [..., width] counts as rows of width columns, and the leading dimensions may be dynamic.
#pragma once
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>
#include <stddef.h>

#include <string>
#include <vector>

namespace bwdeploy::tensorrt {

constexpr char kNamespace[] = "bwdeploy", kVersion[] = "1";

// Every field of every op, with what holds where a network does not set it.
struct Options {
  float eps = 1e-6f;
  int32_t per_token = 0;       // FP8: compute a scale for each row instead of taking one
  int32_t swizzled = 1;        // NVFP4: scales in tiles of 128 x 4, not row-major
  int32_t eager_rounding = 0;  // round where unfused PyTorch rounds
  int32_t return_normed = 0;   // one more output: what was quantized, in the activation type
  int32_t gate_first = 1;      // which half of gate_up holds the gate
  int32_t pdl = 1;             // launch with programmatic dependent launch
};

struct OptionField {
  const char* name;
  nvinfer1::PluginFieldType type;
  size_t offset;  // in Options
};

enum class Holds { kActivations, kFloat, kFp8, kFp4 };

enum class Shape {
  kGiven,           // input 0: whatever the network has
  kRows,            // [..., width]
  kWidth,           // width elements
  kOne,             // one element
  kTokens,          // [..., 1]
  kLinearScales,    // [..., width / 16]
  kSwizzledScales,  // [rows up to 128, width / 16 up to 4]
};

struct TensorRule {
  Holds holds;
  Shape shape;
};

// What an op's kernel is launched with.
struct Call {
  const Options& options;
  bool half;  // fp16, not bf16
  int rows, width;
  const void* const* inputs;
  void* const* outputs;
  cudaStream_t stream;
};

struct Op {
  const char* name;
  int columns_of_input;  // columns of input 0 for each column of the result
  int width_multiple, most_width;
  std::vector<OptionField> fields;
  std::vector<TensorRule> (*inputs)(const Options&);
  std::vector<TensorRule> (*outputs)(const Options&);
  int (*launch)(const Call&);  // a cudaError_t
};

class OpPlugin final : public nvinfer1::IPluginV3,
                       public nvinfer1::IPluginV3OneCore,
                       public nvinfer1::IPluginV3OneBuild,
                       public nvinfer1::IPluginV3OneRuntime {
 public:
  OpPlugin(const Op& op, const Options& options);

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  const char* getPluginName() const noexcept override { return op_.name; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  int32_t getNbOutputs() const noexcept override { return static_cast<int32_t>(outputs_.size()); }
  int32_t getOutputDataTypes(nvinfer1::DataType* types, int32_t count, const nvinfer1::DataType* input_types,
                             int32_t input_count) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*,
                          int32_t, nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder& build) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                 int32_t input_count, int32_t output_count) noexcept override;
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::DynamicPluginTensorDesc*, int32_t output_count) noexcept override;

  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                        const nvinfer1::PluginTensorDesc*, int32_t) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descriptions, const nvinfer1::PluginTensorDesc*,
                  const void* const* inputs, void* const* outputs, void*,
                  cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override {
    return clone();
  }
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  bool counts_fit(int32_t input_count, int32_t output_count) const;
  bool input_fits(const nvinfer1::Dims& dims) const;
  bool follows(int32_t input, const nvinfer1::Dims& dims, const nvinfer1::Dims& first) const;
  nvinfer1::DataType type_of(Holds holds, nvinfer1::DataType activation) const;

  const Op& op_;
  Options options_;
  std::vector<TensorRule> inputs_, outputs_;
  std::vector<nvinfer1::PluginField> serialized_;
  nvinfer1::PluginFieldCollection collection_;
};

class OpCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  explicit OpCreator(const Op& op);

  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &collection_; }
  const char* getPluginName() const noexcept override { return op_.name; }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

 private:
  const Op& op_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_;
};

// "op: name: got ..., wanted ..." to TensorRT's logger, or to stderr where there is none.
void report(const std::string& message);

}  // namespace bwdeploy::tensorrt
