// A stand-in for libnvinfer.so.10, from TensorRT's public headers: a plugin registry that lists, a logger
// that keeps its lines, and C functions through which tests create plugins, ask them what TensorRT would ask,
// and run them.
#include <NvInferRuntime.h>
#include <string.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace nvinfer1;

std::string logged, answer;

struct KeptLines final : ILogger {
  void log(Severity, const char* message) noexcept override { logged += std::string(message) + "\n"; }
};

struct Registry final : IPluginRegistry {
  std::vector<IPluginCreatorInterface*> creators;
  std::vector<std::string> namespaces;

  bool registerCreator(IPluginCreatorInterface& creator, const char* where) noexcept override {
    creators.push_back(&creator);
    namespaces.emplace_back(where);
    return true;
  }
  IPluginCreatorInterface* const* getAllCreators(int32_t* count) const noexcept override {
    *count = static_cast<int32_t>(creators.size());
    return creators.data();
  }
  IPluginCreatorInterface* getCreator(const char* name, const char* version,
                                      const char* where) noexcept override {
    for (size_t i = 0; i < creators.size(); ++i) {
      auto* creator = static_cast<IPluginCreatorV3One*>(creators[i]);
      if (namespaces[i] == where && !strcmp(creator->getPluginName(), name) &&
          !strcmp(creator->getPluginVersion(), version))
        return creator;
    }
    return nullptr;
  }

  // What no plugin library of ours calls.
  bool registerCreator(IPluginCreator&, const char*) noexcept override { return false; }
  IPluginCreator* const* getPluginCreatorList(int32_t*) const noexcept override { return nullptr; }
  IPluginCreator* getPluginCreator(const char*, const char*, const char*) noexcept override {
    return nullptr;
  }
  void setErrorRecorder(IErrorRecorder*) noexcept override {}
  IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
  bool deregisterCreator(const IPluginCreator&) noexcept override { return false; }
  bool isParentSearchEnabled() const override { return false; }
  void setParentSearchEnabled(bool) override {}
  PluginLibraryHandle loadLibrary(const char*) noexcept override { return nullptr; }
  void deregisterLibrary(PluginLibraryHandle) noexcept override {}
  bool deregisterCreator(const IPluginCreatorInterface&) noexcept override { return false; }
  IPluginResource* acquirePluginResource(const char*, IPluginResource*) noexcept override { return nullptr; }
  int32_t releasePluginResource(const char*) noexcept override { return 0; }
  IPluginCreatorInterface* const* getAllCreatorsRecursive(int32_t* count) noexcept override {
    return getAllCreators(count);
  }
};

Registry& registry() {
  static Registry one;
  return one;
}

// Dimensions that are all known, so that shapes come out as numbers.
struct Number final : IDimensionExpr, apiv::VDimensionExpr {
  int64_t value;
  explicit Number(int64_t value_) : value(value_) { mImpl = this; }
  bool isConstant() const override { return true; }
  int64_t getConstantValue() const override { return value; }
  bool isSizeTensor() const override { return false; }
};

struct Arithmetic final : IExprBuilder, apiv::VExprBuilder {
  std::deque<Number> numbers;
  Arithmetic() { mImpl = this; }
  const IDimensionExpr* constant(int64_t value) override { return &numbers.emplace_back(value); }
  const IDimensionExpr* operation(DimensionOperation operation, const IDimensionExpr& first,
                                  const IDimensionExpr& second) override {
    const int64_t a = first.getConstantValue(), b = second.getConstantValue();
    return constant(operation == DimensionOperation::kPROD ? a * b : (a + b - 1) / b);
  }
  const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&, const IDimensionExpr&) override {
    return nullptr;
  }
};

template <typename Capability>
Capability* capability(void* plugin, PluginCapabilityType type) {
  return static_cast<Capability*>(static_cast<IPluginV3*>(plugin)->getCapabilityInterface(type));
}
IPluginV3OneBuild* building(void* plugin) {
  return capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}
IPluginV3OneRuntime* running(void* plugin) {
  return capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

IPluginCreatorV3One* creator_of(const char* name) {
  return static_cast<IPluginCreatorV3One*>(registry().getCreator(name, "1", "bwdeploy"));
}

DynamicPluginTensorDesc described(int type, Dims dims) {
  DynamicPluginTensorDesc tensor = {};
  tensor.desc.type = static_cast<DataType>(type);
  tensor.desc.format = TensorFormat::kLINEAR;
  tensor.desc.dims = tensor.min = tensor.max = tensor.opt = dims;
  return tensor;
}

Dims dims_of(const int64_t* sizes, int count) {
  Dims dims = {};
  dims.nbDims = count;
  for (int i = 0; i < count; ++i) dims.d[i] = sizes[i];
  return dims;
}

}  // namespace

extern "C" {

IPluginRegistry* getPluginRegistry() noexcept { return &registry(); }

ILogger* getLogger() noexcept {
  static KeptLines lines;
  return &lines;
}

// One "namespace name version" a line.
const char* stand_in_creators() {
  answer.clear();
  for (size_t i = 0; i < registry().creators.size(); ++i) {
    auto* creator = static_cast<IPluginCreatorV3One*>(registry().creators[i]);
    answer +=
        registry().namespaces[i] + " " + creator->getPluginName() + " " + creator->getPluginVersion() + "\n";
  }
  return answer.c_str();
}

// What was logged since the last call.
const char* stand_in_log() {
  answer.swap(logged);
  logged.clear();
  return answer.c_str();
}

// Fields of one 4-byte value each.
void* stand_in_create(const char* creator, int count, const char* const* names, const int* types,
                      const void* values) {
  std::vector<PluginField> fields;
  for (int i = 0; i < count; ++i)
    fields.emplace_back(names[i], static_cast<const char*>(values) + 4 * i,
                        static_cast<PluginFieldType>(types[i]), 1);
  const PluginFieldCollection collection = {count, fields.data()};
  return creator_of(creator)->createPlugin("one", &collection, TensorRTPhase::kBUILD);
}

// As an engine file does: the fields of a plugin make the next one. The copy is a clone.
void* stand_in_revived(const char* creator, void* plugin) {
  const PluginFieldCollection* fields = running(plugin)->getFieldsToSerialize();
  IPluginV3* revived = creator_of(creator)->createPlugin("one", fields, TensorRTPhase::kRUNTIME);
  return revived ? revived->clone() : nullptr;
}

// One "type d0 d1 ..." a line for each output; "refused" if it does not take these inputs.
const char* stand_in_outputs(void* plugin, int count, const int* input_types, const int64_t* sizes,
                             int dimensions) {
  IPluginV3OneBuild* build = building(plugin);
  const int outputs = build->getNbOutputs();
  Arithmetic arithmetic;
  std::vector<DimsExprs> in(count), out(outputs);
  std::vector<DataType> in_types, out_types(outputs);
  for (int i = 0; i < count; ++i) {
    in[i].nbDims = dimensions;
    for (int d = 0; d < dimensions; ++d) in[i].d[d] = arithmetic.constant(sizes[d]);
    in_types.push_back(static_cast<DataType>(input_types[i]));
  }
  answer = "refused";
  if (build->getOutputDataTypes(out_types.data(), outputs, in_types.data(), count) != 0)
    return answer.c_str();
  if (build->getOutputShapes(in.data(), count, nullptr, 0, out.data(), outputs, arithmetic) != 0)
    return answer.c_str();
  answer.clear();
  for (int i = 0; i < outputs; ++i) {
    answer += std::to_string(static_cast<int>(out_types[i]));
    for (int d = 0; d < out[i].nbDims; ++d) answer += " " + std::to_string(out[i].d[d]->getConstantValue());
    answer += "\n";
  }
  return answer.c_str();
}

// Whether it takes these types (inputs, then outputs) at every position, and input 0 of this shape.
int stand_in_accepts(void* plugin, int inputs, int outputs, const int* types, const int64_t* sizes,
                     int dimensions) {
  std::vector<DynamicPluginTensorDesc> tensors;
  for (int i = 0; i < inputs + outputs; ++i)
    tensors.push_back(described(types[i], dims_of(sizes, dimensions)));
  for (int i = 0; i < inputs + outputs; ++i)
    if (!building(plugin)->supportsFormatCombination(i, tensors.data(), inputs, outputs)) return 0;
  return building(plugin)->configurePlugin(tensors.data(), inputs, tensors.data() + inputs, outputs) == 0;
}

// The answer to the shapes of all inputs: sizes one after the other, `dimensions` of each input.
int stand_in_takes(void* plugin, int inputs, int outputs, int type, const int64_t* sizes,
                   const int* dimensions) {
  std::vector<PluginTensorDesc> tensors;
  for (int i = 0; i < inputs; sizes += dimensions[i++])
    tensors.push_back(described(type, dims_of(sizes, dimensions[i])).desc);
  return running(plugin)->onShapeChange(tensors.data(), inputs, nullptr, outputs) == 0;
}

// Enqueue on a stream, with input 0 of this shape; device pointers.
int stand_in_enqueue(void* plugin, int type, const int64_t* sizes, int dimensions, const void* const* inputs,
                     void* const* outputs, void* stream) {
  const PluginTensorDesc tensor = described(type, dims_of(sizes, dimensions)).desc;
  IPluginV3OneRuntime* run = running(running(plugin)->attachToContext(nullptr));
  return run->enqueue(&tensor, nullptr, inputs, outputs, nullptr, static_cast<cudaStream_t>(stream));
}
}
