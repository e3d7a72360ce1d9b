// NVRTC, modules and launches: CuPy's kernels are compiled for the host by $SIMULATED_CUDA_COMPILE, which includes kernel.h,
// and kept as shared libraries in $SIMULATED_CUDA_KERNELS. A "cubin" is the path of one.
#include "simulated.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <regex>
#include <string>

#include <dlfcn.h>
#include <unistd.h>

#include <cuda.h>

namespace {

const std::string MAGIC = "SIMULATED:";

std::string setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

std::string content(const std::string &path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

bool contains(const std::string &text, const char *part) { return text.find(part) != std::string::npos; }

// Whether the kernels have barriers; and for every one of them a function that takes its arguments as cuLaunchKernel does.
std::string entries(const std::string &source) {
    static const std::regex kernel(
        "extern\\s+\"C\"\\s+__global__\\s+void\\s+(?:__launch_bounds__\\s*\\([^)]*\\)\\s*)?(\\w+)\\s*\\(");
    bool barriers = contains(source, "__syncthreads") || contains(source, "__syncwarp") || contains(source, "__shfl");
    std::string found = "\nSIMULATED_BARRIERS(" + std::to_string(barriers) + ")";
    for (std::sregex_iterator it(source.begin(), source.end(), kernel), end; it != end; ++it)
        found += "\nSIMULATED_ENTRY(" + (*it)[1].str() + ")";
    return found + "\n";
}

struct Program {
    std::string source, log, cubin;
};

using Entry = void (*)(void **);
struct Kernel {
    Entry entry;
    void (*launch)(Entry, void **, const unsigned *);
};
struct Module {
    void *library;
    std::map<std::string, Kernel> kernels;
};

} // namespace

// --- NVRTC

enum { NVRTC_SUCCESS = 0, NVRTC_ERROR_COMPILATION = 6 };

EXPORT const char *nvrtcGetErrorString(int result) { return result ? "NVRTC_ERROR_COMPILATION" : "NVRTC_SUCCESS"; }
EXPORT int nvrtcVersion(int *major, int *minor) { *major = 13; *minor = 2; return NVRTC_SUCCESS; }
EXPORT int nvrtcCreateProgram(Program **program, const char *source, const char *, int, const char **, const char **) {
    *program = new Program{source, "", ""};
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcDestroyProgram(Program **program) {
    delete *program;
    *program = nullptr;
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcCompileProgram(Program *program, int number, const char **options) {
    std::string included;
    for (int i = 0; i < number; ++i)
        if (!strncmp(options[i], "-I", 2) || !strncmp(options[i], "-D", 2)) included += " '" + std::string(options[i]) + "'";
    std::string whole = program->source + entries(program->source);

    size_t key = std::hash<std::string>()(whole + included);
    std::string base = setting("SIMULATED_CUDA_KERNELS") + "/" + std::to_string(key), library = base + ".so";
    if (access(library.c_str(), R_OK)) {
        std::string own = base + "." + std::to_string(getpid()); // another process may be at the same kernel
        std::ofstream(own + ".cpp") << whole;
        std::string command = setting("SIMULATED_CUDA_COMPILE") + included + " " + own + ".cpp -o " + own + ".so >" + own +
                              ".log 2>&1 && mv " + own + ".so " + library + " && rm " + own + ".cpp " + own + ".log";
        if (system(command.c_str())) {
            program->log = content(own + ".log");
            return NVRTC_ERROR_COMPILATION;
        }
    }
    program->cubin = MAGIC + library + '\0';
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcGetCUBINSize(Program *program, size_t *size) { *size = program->cubin.size(); return NVRTC_SUCCESS; }
EXPORT int nvrtcGetCUBIN(Program *program, char *to) {
    memcpy(to, program->cubin.data(), program->cubin.size());
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcGetPTXSize(Program *program, size_t *size) { return nvrtcGetCUBINSize(program, size); }
EXPORT int nvrtcGetPTX(Program *program, char *to) { return nvrtcGetCUBIN(program, to); }
EXPORT int nvrtcGetProgramLogSize(Program *program, size_t *size) { *size = program->log.size() + 1; return NVRTC_SUCCESS; }
EXPORT int nvrtcGetProgramLog(Program *program, char *to) {
    memcpy(to, program->log.c_str(), program->log.size() + 1);
    return NVRTC_SUCCESS;
}
EXPORT int nvrtcGetNumSupportedArchs(int *number) { *number = 1; return NVRTC_SUCCESS; }
EXPORT int nvrtcGetSupportedArchs(int *architecture) { *architecture = 90; return NVRTC_SUCCESS; }

// --- modules and launches

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    const char *text = static_cast<const char *>(image);
    if (strncmp(text, MAGIC.c_str(), MAGIC.size())) return CUDA_ERROR_INVALID_IMAGE;
    void *library = dlopen(text + MAGIC.size(), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return CUDA_ERROR_FILE_NOT_FOUND;
    }
    *module = reinterpret_cast<CUmodule>(new Module{library, {}});
    return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; } // other modules of the same kernel may be in use
EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name) {
    auto module = reinterpret_cast<Module *>(handle);
    void *entry = dlsym(module->library, (std::string("entry_") + name).c_str());
    if (!entry) return CUDA_ERROR_NOT_FOUND;
    Kernel &kernel = module->kernels[name];
    kernel.entry = reinterpret_cast<Entry>(entry);
    kernel.launch = reinterpret_cast<decltype(kernel.launch)>(dlsym(module->library, "simulated_launch"));
    *function = reinterpret_cast<CUfunction>(&kernel);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned x, unsigned y,
                               unsigned z, unsigned, CUstream, void **arguments, void **) {
    ++counts[LAUNCHES];
    auto kernel = reinterpret_cast<Kernel *>(function);
    const unsigned sizes[6] = {grid_x, grid_y, grid_z, x, y, z};
    kernel->launch(kernel->entry, arguments, sizes);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction) {
    *value = which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
EXPORT CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction, CUoccupancyB2DSize, size_t, int) {
    *grid = 4;
    *block = 128;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *number, CUfunction, int, size_t) {
    *number = 1;
    return CUDA_SUCCESS;
}
