// What TensorRT does with a V3 plugin, in its order: find the creator, create for building, ask shapes and formats,
// serialize the fields, create again from them, attach to a context, run. Compiled behind the plugin's own sources.
// PLUGIN_NAME, PLUGIN_VERSION, PLUGIN_KINDS (0 relu, 1 swish, 2 mish; field "kind") are given by the checker.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace rehearsal {

using namespace nvinfer1;

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
}

struct Registry : IPluginRegistry {
    std::vector<IPluginCreatorInterface*> creators;
    bool registerCreator(IPluginCreatorInterface& creator, AsciiChar const* const) noexcept override {
        creators.push_back(&creator);
        return true;
    }
    IPluginCreatorInterface* const* getAllCreators(int32_t* const count) const noexcept override {
        *count = int32_t(creators.size());
        return creators.data();
    }
    IPluginCreatorInterface* getCreator(AsciiChar const* const name, AsciiChar const* const version, AsciiChar const* const) noexcept override {
        for (auto* one : creators) {
            auto* creator = dynamic_cast<IPluginCreatorV3One*>(one);
            if (creator && !std::strcmp(creator->getPluginName(), name) && !std::strcmp(creator->getPluginVersion(), version)) return one;
        }
        return nullptr;
    }
};

struct Kept {
    std::string name, bytes;
    PluginFieldType type;
    int32_t length;
    bool operator==(const Kept& other) const {
        return name == other.name && bytes == other.bytes && type == other.type && length == other.length;
    }
};

size_t width(PluginFieldType type) {
    switch (type) {
        case PluginFieldType::kINT32: case PluginFieldType::kFLOAT32: return 4;
        case PluginFieldType::kFLOAT64: case PluginFieldType::kINT64: return 8;
        case PluginFieldType::kFLOAT16: case PluginFieldType::kBF16: case PluginFieldType::kINT16: return 2;
        case PluginFieldType::kDIMS: return sizeof(Dims);
        default: return 1;
    }
}

template <typename T>
T* capability(IPluginV3* plugin, PluginCapabilityType type, const char* name) {
    auto* found = dynamic_cast<T*>(plugin->getCapabilityInterface(type));
    if (!found) fail(std::string("getCapabilityInterface gives no ") + name);
    return found;
}

std::vector<Kept> serialized(IPluginV3* plugin) {
    auto* runtime = capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME, "IPluginV3OneRuntime");
    auto const* told = runtime->getFieldsToSerialize();
    if (!told) fail("getFieldsToSerialize returns no collection");
    std::vector<Kept> kept;
    for (int32_t i = 0; i < told->nbFields; ++i) {
        auto const& field = told->fields[i];
        kept.push_back({field.name, std::string(static_cast<const char*>(field.data), size_t(field.length) * width(field.type)), field.type, field.length});
    }
    return kept;
}

std::vector<PluginField> fields(const std::vector<Kept>& kept) {
    std::vector<PluginField> made;
    for (auto const& one : kept) made.emplace_back(one.name.c_str(), one.bytes.data(), one.type, one.length);
    return made;
}

IPluginV3* created(IPluginCreatorV3One* creator, const std::vector<Kept>& kept, TensorRTPhase phase) {
    auto made = fields(kept);
    PluginFieldCollection collection{int32_t(made.size()), made.data()};
    return creator->createPlugin("layer", &collection, phase);
}

std::vector<Kept> wish(int32_t kind, int32_t cached) {
    auto bytes = [](int32_t value) { return std::string(reinterpret_cast<char*>(&value), 4); };
    return {{"kind", bytes(kind), PluginFieldType::kINT32, 1}, {"cached", bytes(cached), PluginFieldType::kINT32, 1}};
}

double exact(int kind, double x) {
    if (kind == 0) return x < 0 ? 0 : x;
    if (kind == 1) return x / (1 + std::exp(-x));
    return x * std::tanh(std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))));
}

struct Nothing : IExprBuilder {
    IDimensionExpr const* constant(int64_t) noexcept override { return nullptr; }
    IDimensionExpr const* operation(DimensionOperation, IDimensionExpr const&, IDimensionExpr const&) noexcept override { return nullptr; }
};
struct Axis : IDimensionExpr {
    bool isConstant() const noexcept override { return false; }
    int64_t getConstantValue() const noexcept override { return 0; }
};

void shapes(IPluginV3* plugin) {
    auto* build = capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD, "IPluginV3OneBuild");
    Axis axes[3];
    Nothing builder;
    DimsExprs in{3, {&axes[0], &axes[1], &axes[2]}}, out{};
    if (build->getNbOutputs() != 1) fail("getNbOutputs is not 1");
    if (build->getOutputShapes(&in, 1, nullptr, 0, &out, 1, builder)) fail("getOutputShapes refuses three dynamic axes");
    if (out.nbDims != 3 || std::memcmp(in.d, out.d, 3 * sizeof in.d[0])) fail("getOutputShapes does not give the input's axes");
    DataType given = DataType::kFLOAT, told = DataType::kINT8;
    if (build->getOutputDataTypes(&told, 1, &given, 1) || told != given) fail("getOutputDataTypes does not give the input's type");
    DynamicPluginTensorDesc tensors[2]{};
    for (auto& one : tensors) one.desc.type = DataType::kFLOAT;
    if (!build->supportsFormatCombination(0, tensors, 1, 1) || !build->supportsFormatCombination(1, tensors, 1, 1)) fail("linear float32 is not supported");
    if (build->configurePlugin(tensors, 1, tensors + 1, 1)) fail("configurePlugin fails");
}

// Two frames of each size in one context; the value behind the end must stay.
double values(IPluginV3* plugin, int kind, bool nan) {
    auto* context = capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME, "IPluginV3OneRuntime")->attachToContext(nullptr);
    if (!context) fail("attachToContext gives no plugin");
    auto* runtime = capability<IPluginV3OneRuntime>(context, PluginCapabilityType::kRUNTIME, "IPluginV3OneRuntime");
    double worst = 0;
    for (int64_t n : {7, 0, 5, 11}) {
        size_t count = size_t(n) * 37;
        std::vector<float> in(count), out(count + 1, -77.0f);
        for (size_t i = 0; i < count; ++i) in[i] = -9.0f + 18.0f * float(i) / float(count);
        if (nan && count) in[count / 2] = std::numeric_limits<float>::quiet_NaN();
        float *from, *to;
        if (cudaMalloc((void**)&from, (count + 1) * 4) || cudaMalloc((void**)&to, (count + 1) * 4)) fail("no memory");
        cudaMemcpy(from, in.data(), count * 4, cudaMemcpyHostToDevice);
        PluginTensorDesc desc{{2, {n, 37}}, DataType::kFLOAT, TensorFormat::kLINEAR, 1.0f};
        if (runtime->onShapeChange(&desc, 1, &desc, 1)) fail("onShapeChange refuses " + std::to_string(n) + "x37");
        for (int frame = 0; frame < 2; ++frame) {
            cudaMemcpy(to, out.data(), (count + 1) * 4, cudaMemcpyHostToDevice);
            const void* inputs[]{from};
            void* outputs[]{to};
            if (runtime->enqueue(&desc, &desc, inputs, outputs, nullptr, nullptr)) fail("enqueue fails at " + std::to_string(n) + "x37");
            std::vector<float> answer(count + 1);
            cudaMemcpy(answer.data(), to, (count + 1) * 4, cudaMemcpyDeviceToHost);
            if (answer[count] != -77.0f) fail("enqueue writes behind the end of its output");
            for (size_t i = 0; i < count; ++i) {
                if (std::isnan(in[i]) != std::isnan(answer[i])) fail("NaN does not stay NaN");
                if (!std::isnan(in[i])) worst = std::fmax(worst, std::fabs(answer[i] - exact(kind, in[i])));
            }
        }
        cudaFree(from);
        cudaFree(to);
    }
    delete context;
    return worst;
}

int all() {
    auto* creator = dynamic_cast<IPluginCreatorV3One*>(getPluginRegistry()->getCreator(PLUGIN_NAME, PLUGIN_VERSION));
    if (!creator) fail("no creator is registered as " PLUGIN_NAME " version " PLUGIN_VERSION);
    if (created(creator, wish(99, 0), TensorRTPhase::kBUILD)) fail("the creator takes kind 99");
    for (int kind : {PLUGIN_KINDS})
        for (int cached : {0, 1}) {
            auto* first = created(creator, wish(kind, cached), TensorRTPhase::kBUILD);
            if (!first) fail("the creator refuses kind " + std::to_string(kind));
            auto* core = capability<IPluginV3OneCore>(first, PluginCapabilityType::kCORE, "IPluginV3OneCore");
            if (std::strcmp(core->getPluginName(), PLUGIN_NAME) || std::strcmp(core->getPluginVersion(), PLUGIN_VERSION)) fail("the plugin's name or version is not its creator's");
            shapes(first);
            auto kept = serialized(first);
            for (auto const& one : wish(kind, cached)) {
                bool there = false;
                for (auto const& field : kept) there = there || field == one;
                if (!there) fail("field '" + one.name + "' is not serialized as it was given");
            }
            auto* second = created(creator, kept, TensorRTPhase::kRUNTIME);
            if (!second) fail("the creator refuses the fields that its plugin serialized");
            if (serialized(second) != kept) fail("serialize, deserialize, serialize does not give the same fields");
            auto* copy = second->clone();
            if (!copy || serialized(copy) != kept) fail("a clone has other fields");
            delete first;
            delete second;
            double worst = std::fmax(values(copy, kind, false), values(copy, kind, true));
            delete copy;
            std::printf("{\"kernel\": \"kind %d, cached %d\", \"fields\": %zu, \"max_abs_error\": %g, \"correct\": %s}\n", kind, cached, kept.size(), worst, worst <= 1e-5 ? "true" : "false");
        }
    return 0;
}

}  // namespace rehearsal

extern "C" nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
    static rehearsal::Registry registry;
    return &registry;
}

int main() { return rehearsal::all(); }
