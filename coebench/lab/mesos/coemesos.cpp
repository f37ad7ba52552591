// coemesos: a process host for Apache Mesos 1.11.0.
//
//   coemesos master                  a master; flags from MESOS_*, COE_WORK_DIR for the replicated log
//   coemesos agent IP:PORT           one agent of the master at IP:PORT; flags from MESOS_*
//   mesos-containerizer launch …     (also network-cni-setup) what an agent starts for every container
//
// The Mesos code is upstream's own: _scheduler.so, the Python binding that the project published, is linked with
// the whole of libmesos and exports its symbols.  What upstream's main() functions do around that code is here.
// There are no headers to build against, so every entry point is looked up by its mangled name, base classes are
// found through the library's own RTTI, and objects live in zeroed buffers larger than they can be.  All of that
// holds for one build only, which is why fetch.py refuses any other SHA-256.

#include <cxxabi.h>
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <typeinfo>

// What the binding expects of a Python that is not here; only ever compared or stored.
extern "C" {
void* PyExc_Exception = nullptr;
void* PyExc_TypeError = nullptr;
char _Py_NoneStruct[64];
}

#define STR "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"  // std::string, mangled
#define INTERNAL "5mesos8internal"
#define SLAVE INTERNAL "5slave"

enum Exit { USAGE = 64, FLAGS = 64, FAILED = 65, LIBRARY = 69, LAYOUT = 70 };  // after sysexits.h

[[noreturn]] static void die(int code, const std::string& why) {
  fprintf(stderr, "coemesos: %s\n", why.c_str());
  exit(code);
}

// --- the library ------------------------------------------------------------------------------------------------

static void* library;

static void* symbol(const std::string& mangled) {
  if (void* p = dlsym(library, mangled.c_str())) return p;
  die(LAYOUT, "the library has no " + mangled);
}

template <class Function>
static Function* function(const std::string& mangled) {
  return reinterpret_cast<Function*>(symbol(mangled));
}

static char* space(size_t bytes) { return static_cast<char*>(calloc(1, bytes)); }

/// Constructs an object of the class whose constructor takes nothing.
static char* construct(const std::string& cls, size_t bytes) {
  char* object = space(bytes);
  function<void(void*)>("_Z" + cls + "C1Ev")(object);
  return object;
}

/// Where the `to` part of an object of type `from` begins.
static void* upcast(void* object, const std::string& from, const std::string& to) {
  auto* type = static_cast<const std::type_info*>(symbol("_ZTI" + from));
  auto* base = static_cast<const abi::__class_type_info*>(symbol("_ZTI" + to));
  if (!type->__do_upcast(base, &object)) die(LAYOUT, from + " is no " + to);
  return object;
}

static const std::string FLAGS_BASE = "N5flags9FlagsBaseE";
static const std::string PROCESS = "N7process11ProcessBaseE";

// Mesos' Option<T> is {SOME = 0 | NONE = 1; T}.
struct OptionalString {
  int none = 1;
  int pad = 0;
  std::string value;
  OptionalString() = default;
  explicit OptionalString(const std::string& v) : none(0), value(v) {}
};
struct Nothing {  // None() of any other type
  int none = 1;
  char rest[4092] = {0};
};

/// What a `Try<T*>` that was returned holds; ends the process with its error otherwise.
struct Returned {
  alignas(16) char memory[1024] = {0};
  void* pointer(const char* what) const {
    if (*reinterpret_cast<const int*>(memory) != 0)
      die(FAILED, std::string(what) + ": " + *reinterpret_cast<const std::string*>(memory + 24));
    return *reinterpret_cast<void* const*>(memory + 8);
  }
};

/// `flags.load()` returns Try<Warnings>, whose error, if any, is behind the warnings.
struct Loaded {
  alignas(16) char memory[1024] = {0};
  void check() const {
    if (*reinterpret_cast<const int*>(memory + 32) == 0)
      die(FLAGS, "flags: " + *reinterpret_cast<const std::string*>(memory + 40));
  }
};

// --- libprocess -------------------------------------------------------------------------------------------------

static void start_logging(const std::string& name) {
  static Nothing flags;
  function<void(const std::string&, bool, Nothing&)>(
      "_ZN" INTERNAL "7logging10initializeERK" STR "bRK6OptionINS1_5FlagsEE")(name, true, flags);
}

static void spawn(void* object, const std::string& type) {
  alignas(16) char pid[512] = {0};
  function<void(void*, void*, bool)>("_ZN7process5spawnEPNS_11ProcessBaseEb")(
      pid, upcast(object, type, PROCESS), false);
}

static void start_libprocess(const std::string& delegate) {
  OptionalString id(delegate), none, none2;
  function<bool(OptionalString&, OptionalString&, OptionalString&)>(
      "_ZN7process10initializeERK6OptionI" STR "ES9_S9_")(id, none, none2);
  spawn(construct("N" INTERNAL "14VersionProcess", 1 << 16), "N" INTERNAL "14VersionProcessE");
}

[[noreturn]] static void serve() {
  for (;;) pause();
}

// --- master -----------------------------------------------------------------------------------------------------

/// local::launch() assembles allocator, registrar, log and master from MESOS_*; with no agents it is a master alone.
static int master() {
  start_logging("mesos-master");
  char* flags = construct("N" INTERNAL "5local5Flags", 1 << 16);
  auto* work_dir = reinterpret_cast<std::string*>(flags + 8);
  auto* agents = reinterpret_cast<int*>(flags + 40);
  if (*agents != 1) die(LAYOUT, "local::Flags is not laid out as expected");
  *agents = 0;
  if (const char* folder = getenv("COE_WORK_DIR")) *work_dir = folder;
  start_libprocess("master");
  alignas(16) char pid[512] = {0};
  function<void(void*, void*, void*)>(
      "_ZN" INTERNAL "5local6launchERKNS1_5FlagsEPNS_9allocator9AllocatorE")(pid, flags, nullptr);
  serve();
}

// --- agent ------------------------------------------------------------------------------------------------------

/// The steps of upstream's slave/main.cpp, in its order.
static int agent(const std::string& master_address) {
  const std::string id = "slave(1)";
  start_logging("mesos-agent");

  char* flags = construct("N" SLAVE "5Flags", 1 << 16);
  Loaded loaded;
  function<void(void*, void*, const std::string&)>("_ZN5flags9FlagsBase4loadERK" STR)(
      loaded.memory, upcast(flags, "N" SLAVE "5FlagsE", FLAGS_BASE), "MESOS_");
  loaded.check();
  start_libprocess(id);

  const char* folder = getenv("MESOS_WORK_DIR");
  if (!folder) die(USAGE, "MESOS_WORK_DIR is not set");
  void* fetcher = space(4096);
  function<void(void*, void*)>("_ZN" SLAVE "7FetcherC1ERKNS1_5FlagsE")(fetcher, flags);
  void* collector = space(4096);
  function<void(void*, const std::string&)>("_ZN" SLAVE "16GarbageCollectorC1ERK" STR)(collector, folder);

  OptionalString none;
  Returned secrets;
  function<void(void*, OptionalString&)>("_ZN5mesos14SecretResolver6createERK6OptionI" STR "E")(secrets.memory, none);
  Returned containers;
  function<void(void*, void*, bool, void*, void*, void*, void*, void*, void*)>(
      "_ZN" SLAVE "13Containerizer6createERKNS1_5FlagsEbPNS1_7FetcherEPNS1_16GarbageCollectorEPNS_14SecretResolver"
      "EPNS1_16VolumeGidManagerEPNS0_20PendingFutureTrackerEPNS1_9CSIServerE")(
      containers.memory, flags, false, fetcher, collector, secrets.pointer("secret resolver"), nullptr, nullptr,
      nullptr);
  void* containerizer = containers.pointer("containerizer");

  OptionalString where(master_address);
  static Nothing no_timeout;
  Returned detectors;
  function<void(void*, OptionalString&, OptionalString&, Nothing&)>(
      "_ZN5mesos6master8detector14MasterDetector6createERK6OptionI" STR "ESC_RKS3_I8DurationE")(
      detectors.memory, where, none, no_timeout);

  static Nothing no_authorizer;
  void* files = space(1 << 14);
  function<void(void*, OptionalString&, Nothing&)>(
      "_ZN" INTERNAL "5FilesC1ERK6OptionI" STR "ERKS2_IPNS_10AuthorizerEE")(files, none, no_authorizer);
  void* updates = space(4096);
  function<void(void*, void*)>("_ZN" SLAVE "23TaskStatusUpdateManagerC1ERKNS1_5FlagsE")(updates, flags);
  Returned estimator, qos;
  function<void(void*, OptionalString&)>("_ZN5mesos5slave17ResourceEstimator6createERK6OptionI" STR "E")(
      estimator.memory, none);
  function<void(void*, OptionalString&)>("_ZN5mesos5slave13QoSController6createERK6OptionI" STR "E")(qos.memory, none);

  static char no_csi[64];
  static Nothing no_socket;
  void* slave = space(1 << 18);
  function<void(void*, const std::string&, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*,
                void*, void*, void*)>(
      "_ZN" SLAVE "5SlaveC1ERK" STR
      "RKNS1_5FlagsEPNS_6master8detector14MasterDetectorEPNS1_13ContainerizerEPNS0_5FilesEPNS1_16GarbageCollectorE"
      "PNS1_23TaskStatusUpdateManagerEPNS_5slave17ResourceEstimatorEPNSQ_13QoSControllerEPNS_15SecretGeneratorE"
      "PNS1_16VolumeGidManagerEPNS0_20PendingFutureTrackerEON7process5OwnedINS1_9CSIServerEEERK6OptionINS11_7network"
      "8internal6SocketINS17_4unix7AddressEEEERKS16_IPNS_10AuthorizerEE")(
      slave, id, flags, detectors.pointer("master detector"), containerizer, files, collector, updates,
      estimator.pointer("resource estimator"), qos.pointer("QoS controller"), nullptr, nullptr, nullptr, no_csi,
      &no_socket, &no_authorizer);
  spawn(slave, "N" SLAVE "5SlaveE");
  serve();
}

// --- mesos-containerizer ----------------------------------------------------------------------------------------

// A launch masks files such as /proc/sysrq-trigger by mounting over them, and fails where the kernel was built
// without one.  The functions below take those mounts out of the launch's JSON before Mesos reads it.

/// The end (one past) of the JSON string, object or array that begins at `at`.
static size_t end_of(const std::string& json, size_t at) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = at; i < json.size(); ++i) {
    const char c = json[i];
    if (quoted) {
      if (c == '\\') ++i;
      else if (c == '"') quoted = false;
      else continue;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    }
    if (!quoted && depth == 0 && (c == '"' || c == '}' || c == ']')) return i + 1;
  }
  return json.size();
}

/// Whether this mount's target is a file under /proc that this kernel does not have.
static bool mounts_on_nothing(const std::string& mount) {
  const std::string key = "\"target\":";
  size_t at = mount.find(key);
  if (at == std::string::npos || (at += key.size()) >= mount.size() || mount[at] != '"') return false;
  std::string target;
  for (size_t i = at + 1, end = end_of(mount, at) - 1; i < end; ++i) {
    if (mount[i] == '\\') ++i;  // "\/"
    target += mount[i];
  }
  const size_t proc = target.rfind("/proc/");
  return proc != std::string::npos && access(target.substr(proc).c_str(), F_OK) != 0;
}

static std::string without_such_mounts(const std::string& json) {
  std::string kept;
  for (size_t i = 0; i < json.size();) {
    if (json[i] != '"') {
      kept += json[i++];
      continue;
    }
    size_t end = end_of(json, i);
    const std::string word = json.substr(i, end - i);
    kept += word;
    i = end;
    if (word != "\"mounts\"" || json.compare(i, 2, ":[") != 0) continue;
    end = end_of(json, i + 1);
    kept += ":[";
    bool first = true;
    for (size_t m = i + 2; m < end - 1;) {
      const size_t next = end_of(json, m);
      const std::string mount = json.substr(m, next - m);
      if (!mounts_on_nothing(mount)) {
        if (!first) kept += ',';
        kept += mount;
        first = false;
      }
      m = next;
      while (m < end - 1 && (json[m] == ',' || json[m] == ' ')) ++m;
    }
    kept += ']';
    i = end;
  }
  return kept;
}

/// Runs one of mesos-containerizer's subcommands: an object {vtable, name, FlagsBase, Flags} and its execute().
static int subcommand(const std::string& cls, const char* name, int argc, char** argv) {
  const std::string type = "N" SLAVE + std::to_string(cls.size()) + cls;
  char* probe = construct(type + "5Flags", 1 << 16);
  const size_t base_in_flags = static_cast<char*>(upcast(probe, type + "5FlagsE", FLAGS_BASE)) - probe;

  char* command = space(1 << 16);
  char* base = static_cast<char*>(function<void*(void*)>("_Z" + type + "8getFlagsEv")(command));
  *reinterpret_cast<void**>(command) = static_cast<char*>(symbol("_ZTV" + type + "E")) + 16;
  new (command + 8) std::string(name);
  function<void(void*)>("_ZN5flags9FlagsBaseC1Ev")(command + 40);
  function<void(void*)>("_Z" + type + "5FlagsC1Ev")(base - base_in_flags);

  OptionalString prefix("MESOS_CONTAINERIZER_");
  Loaded loaded;
  function<void(void*, void*, OptionalString&, int, char**, bool, bool)>(
      "_ZN5flags9FlagsBase4loadERK6OptionI" STR "EiPKPKcbb")(loaded.memory, base, prefix, argc, argv, false, false);
  loaded.check();
  return function<int(void*)>("_Z" + type + "7executeEv")(command);
}

static int containerizer(int argc, char** argv) {
  if (argc < 2) die(USAGE, "usage: mesos-containerizer launch|network-cni-setup …");
  const std::string name = argv[1];
  if (name == "network-cni-setup") return subcommand("NetworkCniIsolatorSetup", argv[1], argc - 1, argv + 1);
  if (name != "launch") die(USAGE, "mesos-containerizer: no subcommand " + name);

  const char* variable = "MESOS_CONTAINERIZER_LAUNCH_INFO";
  if (const char* info = getenv(variable)) setenv(variable, without_such_mounts(info).c_str(), 1);
  const std::string flag = "--launch_info=";
  for (int i = 2; i < argc; ++i)
    if (std::string(argv[i]).compare(0, flag.size(), flag) == 0)
      argv[i] = strdup((flag + without_such_mounts(argv[i] + flag.size())).c_str());
  return subcommand("MesosContainerizerLaunch", argv[1], argc - 1, argv + 1);
}

// ----------------------------------------------------------------------------------------------------------------

static std::string folder_of_this_program() {
  char self[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self);
  const std::string path(self, length > 0 ? length : 0);
  return path.substr(0, path.rfind('/'));
}

int main(int argc, char** argv) {
  const std::string called = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
  const std::string what = called == "mesos-containerizer" ? called : argc > 1 ? argv[1] : "";
  if (what == "check-mounts" && argc == 3) {  // for tests: needs no library
    puts(without_such_mounts(argv[2]).c_str());
    return 0;
  }
  library = dlopen((folder_of_this_program() + "/_scheduler.so").c_str(), RTLD_LAZY | RTLD_GLOBAL);
  if (!library) die(LIBRARY, dlerror());
  if (what == "mesos-containerizer") return containerizer(argc, argv);
  if (what == "master" && argc == 2) return master();
  if (what == "agent" && argc == 3) return agent(argv[2]);
  die(USAGE, "usage: coemesos master | agent IP:PORT");
}
