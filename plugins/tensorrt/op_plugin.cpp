#include "op_plugin.h"

#include <stdio.h>
#include <string.h>

#include <limits>
#include <memory>

namespace bwdeploy::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimensionOperation;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr int64_t kMostElements = int64_t{std::numeric_limits<int>::max()} * 8;  // kernels count packs of 8

const char* type_name(PluginFieldType type) {
  return type == PluginFieldType::kFLOAT32 ? "float32"
         : type == PluginFieldType::kINT32 ? "int32"
                                           : "another type";
}

std::vector<PluginField> fields_of(const Op& op, const Options* options) {
  std::vector<PluginField> fields;
  for (const OptionField& field : op.fields) {
    const void* data = options ? reinterpret_cast<const char*>(options) + field.offset : nullptr;
    fields.emplace_back(field.name, data, field.type, 1);
  }
  return fields;
}

// Put one field of a network into the options; says what is wrong with it otherwise.
bool read_field(const Op& op, const PluginField& given, Options& options) {
  const std::string where =
      std::string(op.name) + ": field " + (given.name ? given.name : "without a name") + ": ";
  for (const OptionField& field : op.fields) {
    if (given.name == nullptr || strcmp(field.name, given.name) != 0) continue;
    if (given.type != field.type || given.length != 1 || given.data == nullptr) {
      report(where + "got " + std::to_string(given.length) + " values of " + type_name(given.type) +
             ", wanted 1 of " + type_name(field.type));
      return false;
    }
    memcpy(reinterpret_cast<char*>(&options) + field.offset, given.data, 4);
    return true;
  }
  report(where + "got a field that this plugin does not have");
  return false;
}

// The product of all dimensions but the last `but`.
int64_t elements_of(const Dims& dims, int but = 0) {
  int64_t elements = 1;
  for (int i = 0; i + but < dims.nbDims; ++i) elements *= dims.d[i];
  return elements;
}

std::string dims_text(const Dims& dims) {
  std::string text = "[";
  for (int i = 0; i < dims.nbDims; ++i) text += (i == 0 ? "" : ", ") + std::to_string(dims.d[i]);
  return text + "]";
}

// Shapes of the results from the shape of input 0.
class ShapeBuilder {
 public:
  ShapeBuilder(const DimsExprs& input, int columns_of_input, nvinfer1::IExprBuilder& build)
      : input_(input), build_(build), width_(divide(input.d[input.nbDims - 1], columns_of_input)) {}

  DimsExprs operator()(Shape shape) const {
    DimsExprs result = input_;
    switch (shape) {
      case Shape::kTokens:
        return with_last(build_.constant(1));
      case Shape::kLinearScales:
        return with_last(divide(width_, 16));
      case Shape::kSwizzledScales:
        result.nbDims = 2;
        result.d[0] = round_up(rows(), 128);
        result.d[1] = round_up(divide(width_, 16), 4);
        return result;
      default:
        return with_last(width_);
    }
  }

 private:
  using Expression = const nvinfer1::IDimensionExpr*;

  Expression divide(Expression value, int by) const {
    return build_.operation(DimensionOperation::kCEIL_DIV, *value, *build_.constant(by));
  }
  Expression times(Expression value, Expression by) const {
    return build_.operation(DimensionOperation::kPROD, *value, *by);
  }
  Expression round_up(Expression value, int to) const {
    return times(divide(value, to), build_.constant(to));
  }
  Expression rows() const {
    Expression product = build_.constant(1);
    for (int i = 0; i + 1 < input_.nbDims; ++i) product = times(product, input_.d[i]);
    return product;
  }
  DimsExprs with_last(Expression last) const {
    DimsExprs result = input_;
    result.d[result.nbDims - 1] = last;
    return result;
  }

  const DimsExprs& input_;
  nvinfer1::IExprBuilder& build_;
  Expression width_;
};

}  // namespace

void report(const std::string& message) {
  if (nvinfer1::ILogger* logger = getLogger())
    logger->log(nvinfer1::ILogger::Severity::kERROR, message.c_str());
  else
    fprintf(stderr, "%s\n", message.c_str());
}

OpPlugin::OpPlugin(const Op& op, const Options& options)
    : op_(op), options_(options), inputs_(op.inputs(options)), outputs_(op.outputs(options)) {}

nvinfer1::IPluginCapability* OpPlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* OpPlugin::clone() noexcept {
  try {
    return new OpPlugin(op_, options_);
  } catch (const std::exception& error) {
    report(std::string(op_.name) + ": not cloned: " + error.what());
    return nullptr;
  }
}

DataType OpPlugin::type_of(Holds holds, DataType activation) const {
  switch (holds) {
    case Holds::kFloat:
      return DataType::kFLOAT;
    case Holds::kFp8:
      return DataType::kFP8;
    case Holds::kFp4:
      return DataType::kFP4;
    default:
      return activation;
  }
}

int32_t OpPlugin::getOutputDataTypes(DataType* types, int32_t count, const DataType* input_types,
                                     int32_t input_count) const noexcept {
  if (!counts_fit(input_count, count)) return -1;
  for (int32_t i = 0; i < count; ++i) types[i] = type_of(outputs_[i].holds, input_types[0]);
  return 0;
}

int32_t OpPlugin::getOutputShapes(const DimsExprs* inputs, int32_t input_count, const DimsExprs*, int32_t,
                                  DimsExprs* outputs, int32_t output_count,
                                  nvinfer1::IExprBuilder& build) noexcept {
  if (!counts_fit(input_count, output_count) || inputs[0].nbDims < 2) return -1;
  const ShapeBuilder shape(inputs[0], op_.columns_of_input, build);
  for (int32_t i = 0; i < output_count; ++i) outputs[i] = shape(outputs_[i].shape);
  return 0;
}

bool OpPlugin::supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                         int32_t input_count, int32_t output_count) noexcept {
  if (!counts_fit(input_count, output_count)) return false;
  const DataType activation = tensors[0].desc.type;
  if (activation != DataType::kBF16 && activation != DataType::kHALF) return false;
  const TensorRule& rule = position < input_count ? inputs_[position] : outputs_[position - input_count];
  const nvinfer1::PluginTensorDesc& tensor = tensors[position].desc;
  return tensor.format == nvinfer1::TensorFormat::kLINEAR && tensor.type == type_of(rule.holds, activation);
}

int32_t OpPlugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                                  const nvinfer1::DynamicPluginTensorDesc*, int32_t output_count) noexcept {
  return counts_fit(input_count, output_count) && input_fits(inputs[0].max) ? 0 : -1;
}

// The shapes that the kernel will read: a wrong one would have it read past the end.
int32_t OpPlugin::onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                                const nvinfer1::PluginTensorDesc*, int32_t output_count) noexcept {
  if (!counts_fit(input_count, output_count) || !input_fits(inputs[0].dims)) return -1;
  for (int32_t i = 1; i < input_count; ++i)
    if (!follows(i, inputs[i].dims, inputs[0].dims)) return -1;
  return 0;
}

int32_t OpPlugin::enqueue(const nvinfer1::PluginTensorDesc* input_descriptions,
                          const nvinfer1::PluginTensorDesc*, const void* const* inputs, void* const* outputs,
                          void*, cudaStream_t stream) noexcept {
  const Dims& dims = input_descriptions[0].dims;
  const int rows = static_cast<int>(elements_of(dims, 1));
  const int width = static_cast<int>(dims.d[dims.nbDims - 1] / op_.columns_of_input);
  const bool half = input_descriptions[0].type == DataType::kHALF;
  const int error = op_.launch({options_, half, rows, width, inputs, outputs, stream});
  if (error != cudaSuccess)
    report(std::string(op_.name) + ": not launched: " + cudaGetErrorString(static_cast<cudaError_t>(error)));
  return error;
}

const nvinfer1::PluginFieldCollection* OpPlugin::getFieldsToSerialize() noexcept {
  try {
    serialized_ = fields_of(op_, &options_);
  } catch (const std::exception& error) {
    report(std::string(op_.name) + ": not serialized: " + error.what());
    return nullptr;
  }
  collection_ = {static_cast<int32_t>(serialized_.size()), serialized_.data()};
  return &collection_;
}

bool OpPlugin::counts_fit(int32_t input_count, int32_t output_count) const {
  const bool fits = input_count == static_cast<int32_t>(inputs_.size()) && output_count == getNbOutputs();
  if (!fits)
    report(std::string(op_.name) + ": tensors: got " + std::to_string(input_count) + " inputs and " +
           std::to_string(output_count) + " outputs, wanted " + std::to_string(inputs_.size()) + " and " +
           std::to_string(outputs_.size()));
  return fits;
}

bool OpPlugin::input_fits(const Dims& dims) const {
  const int64_t columns = dims.nbDims > 0 ? dims.d[dims.nbDims - 1] : 0;
  const int64_t multiple = int64_t{op_.columns_of_input} * op_.width_multiple;
  const int64_t most = int64_t{op_.columns_of_input} * op_.most_width;
  const int64_t elements = elements_of(dims), most_elements = op_.columns_of_input * kMostElements;
  const bool fits = dims.nbDims >= 2 && columns > 0 && columns <= most && columns % multiple == 0 &&
                    elements >= 0 && elements <= most_elements;
  if (!fits)
    report(std::string(op_.name) + ": input 0: got " + dims_text(dims) +
           ", wanted [..., columns] with columns a multiple of " + std::to_string(multiple) + " up to " +
           std::to_string(most) + ", and at most " + std::to_string(most_elements) + " elements");
  return fits;
}

// Whether an input other than the first has the shape that follows from the first's.
bool OpPlugin::follows(int32_t input, const Dims& dims, const Dims& first) const {
  const int64_t width = first.d[first.nbDims - 1] / op_.columns_of_input;
  const Shape shape = inputs_[input].shape;
  Dims wanted = first;
  wanted.nbDims = shape == Shape::kRows ? first.nbDims : 1;
  wanted.d[wanted.nbDims - 1] = shape == Shape::kOne ? 1 : width;

  const bool fits =
      shape == Shape::kRows ? dims_text(dims) == dims_text(wanted) : elements_of(dims) == elements_of(wanted);
  if (!fits)
    report(std::string(op_.name) + ": input " + std::to_string(input) + ": got " + dims_text(dims) +
           ", wanted " + dims_text(wanted));
  return fits;
}

OpCreator::OpCreator(const Op& op)
    : op_(op),
      fields_(fields_of(op, nullptr)),
      collection_{static_cast<int32_t>(fields_.size()), fields_.data()} {}

nvinfer1::IPluginV3* OpCreator::createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                             nvinfer1::TensorRTPhase) noexcept {
  try {
    Options options;
    for (int32_t i = 0; fields != nullptr && i < fields->nbFields; ++i)
      if (!read_field(op_, fields->fields[i], options)) return nullptr;
    if (!(options.eps >= 0)) {
      report(std::string(op_.name) + ": field eps: got " + std::to_string(options.eps) +
             ", wanted a number not below 0");
      return nullptr;
    }
    return new OpPlugin(op_, options);
  } catch (const std::exception& error) {
    report(std::string(op_.name) + ": not created: " + error.what());
    return nullptr;
  }
}

}  // namespace bwdeploy::tensorrt
