// my_relu_plugin.cc: the plugin's host side. Every method is noexcept: an exception that left one would end the
// process, so errors are return codes (non-zero, nullptr), and TensorRT reports them.
#include "my_relu_plugin.h"

#include <cstring>
#include <new>

namespace infra90 {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr char kName[] = "MyReluPlugin";
constexpr char kVersion[] = "1";
constexpr char kNamespace[] = "";

MyReluPlugin::MyReluPlugin(Kind kind, bool cached)
    : kind_(static_cast<int32_t>(kind)),
      cached_(cached),
      fields_{PluginField("kind", &kind_, PluginFieldType::kINT32, 1),
              PluginField("cached", &cached_, PluginFieldType::kINT32, 1)} {
    collection_.nbFields = static_cast<int32_t>(fields_.size());
    collection_.fields = fields_.data();
}

MyReluPlugin::~MyReluPlugin() { cudaFree(table_); }

nvinfer1::IPluginCapability* MyReluPlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE:
            return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD:
            return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME:
            return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

// A clone has the parameters, not the table: two contexts must not write to the same memory.
nvinfer1::IPluginV3* MyReluPlugin::clone() noexcept {
    return new (std::nothrow) MyReluPlugin(Kind::kRelu, cached_ != 0);
}

nvinfer1::AsciiChar const* MyReluPlugin::getPluginName() const noexcept { return kName; }
nvinfer1::AsciiChar const* MyReluPlugin::getPluginVersion() const noexcept { return kVersion; }
nvinfer1::AsciiChar const* MyReluPlugin::getPluginNamespace() const noexcept { return kNamespace; }

int32_t MyReluPlugin::configurePlugin(nvinfer1::DynamicPluginTensorDesc const*, int32_t inputs,
                                      nvinfer1::DynamicPluginTensorDesc const*, int32_t outputs) noexcept {
    return inputs == 1 && outputs == 1 ? 0 : 1;
}

int32_t MyReluPlugin::getOutputDataTypes(nvinfer1::DataType* outputTypes, int32_t outputs,
                                         nvinfer1::DataType const* inputTypes, int32_t inputs) const noexcept {
    if (inputs != 1 || outputs != 1) return 1;
    outputTypes[0] = inputTypes[0];
    return 0;
}

// The output has the input's expressions, so any rank and any dynamic axis is followed.
int32_t MyReluPlugin::getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t inputCount,
                                      nvinfer1::DimsExprs const*, int32_t, nvinfer1::DimsExprs* outputs,
                                      int32_t outputCount, nvinfer1::IExprBuilder&) noexcept {
    if (inputCount != 1 || outputCount != 1) return 1;
    outputs[0] = inputs[0];
    return 0;
}

// Linear float32 only: vectorised formats have padding lanes, which would count as elements here.
bool MyReluPlugin::supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors,
                                             int32_t inputs, int32_t outputs) noexcept {
    if (inputs != 1 || outputs != 1 || position < 0 || position > 1) return false;
    auto const& asked = tensors[position].desc;
    return asked.type == nvinfer1::DataType::kFLOAT && asked.format == nvinfer1::TensorFormat::kLINEAR;
}

int32_t MyReluPlugin::getNbOutputs() const noexcept { return 1; }

int32_t MyReluPlugin::onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t inputs,
                                    nvinfer1::PluginTensorDesc const*, int32_t outputs) noexcept {
    if (inputs != 1 || outputs != 1) return 1;
    for (int32_t axis = 0; axis < in[0].dims.nbDims; ++axis)
        if (in[0].dims.d[axis] < 0) return 1;  // by now every dimension must be known
    return 0;
}

int32_t MyReluPlugin::enqueue(nvinfer1::PluginTensorDesc const* inputDesc, nvinfer1::PluginTensorDesc const*,
                              void const* const* inputs, void* const* outputs, void*, cudaStream_t stream) noexcept {
    size_t count = 1;
    for (int32_t axis = 0; axis < inputDesc[0].dims.nbDims; ++axis) count *= static_cast<size_t>(inputDesc[0].dims.d[axis]);
    auto const* in = static_cast<float const*>(inputs[0]);
    auto* out = static_cast<float*>(outputs[0]);
    if (!cached_ || table_ == nullptr) return launch_activation(kind_, in, out, count, stream) == cudaSuccess ? 0 : 1;
    if (!filled_) {  // on the same stream: what follows waits for it
        if (launch_fill_table(kind_, table_, stream) != cudaSuccess) return 1;
        filled_ = true;
    }
    return launch_from_table(kind_, table_, in, out, count, stream) == cudaSuccess ? 0 : 1;
}

// The table's memory is taken here, not in enqueue: cudaMalloc would stop every stream of the GPU.
nvinfer1::IPluginV3* MyReluPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
    auto* own = new (std::nothrow) MyReluPlugin(static_cast<Kind>(kind_), cached_ != 0);
    if (own != nullptr && cached_ && cudaMalloc(reinterpret_cast<void**>(&own->table_), activation_table_bytes()) != cudaSuccess) {
        delete own;
        return nullptr;
    }
    return own;
}

nvinfer1::PluginFieldCollection const* MyReluPlugin::getFieldsToSerialize() noexcept { return &collection_; }

MyReluPluginCreator::MyReluPluginCreator()
    : fields_{PluginField("kind", nullptr, PluginFieldType::kINT32, 1),
              PluginField("cached", nullptr, PluginFieldType::kINT32, 1)} {
    collection_.nbFields = static_cast<int32_t>(fields_.size());
    collection_.fields = fields_.data();
}

// Both phases: from the network's author when building, from an engine's fields when deserializing. A field that is
// not known is passed over and one that is missing has its default, so a newer plugin reads an older engine.
nvinfer1::IPluginV3* MyReluPluginCreator::createPlugin(nvinfer1::AsciiChar const*,
                                                       nvinfer1::PluginFieldCollection const* given,
                                                       nvinfer1::TensorRTPhase) noexcept {
    int32_t kind = static_cast<int32_t>(Kind::kRelu), cached = 0;
    for (int32_t i = 0; given != nullptr && i < given->nbFields; ++i) {
        PluginField const& field = given->fields[i];
        int32_t* const known = std::strcmp(field.name, "kind") == 0     ? &kind
                               : std::strcmp(field.name, "cached") == 0 ? &cached
                                                                        : nullptr;
        if (known == nullptr) continue;
        if (field.type != PluginFieldType::kINT32 || field.length != 1 || field.data == nullptr) return nullptr;
        std::memcpy(known, field.data, sizeof *known);  // the engine's bytes need not be aligned
    }
    if (kind < 0 || kind > static_cast<int32_t>(Kind::kMish) || cached < 0 || cached > 1) return nullptr;
    return new (std::nothrow) MyReluPlugin(static_cast<Kind>(kind), cached != 0);
}

nvinfer1::PluginFieldCollection const* MyReluPluginCreator::getFieldNames() noexcept { return &collection_; }
nvinfer1::AsciiChar const* MyReluPluginCreator::getPluginName() const noexcept { return kName; }
nvinfer1::AsciiChar const* MyReluPluginCreator::getPluginVersion() const noexcept { return kVersion; }
nvinfer1::AsciiChar const* MyReluPluginCreator::getPluginNamespace() const noexcept { return kNamespace; }

REGISTER_TENSORRT_PLUGIN(MyReluPluginCreator);  // when the library is loaded

}  // namespace infra90
