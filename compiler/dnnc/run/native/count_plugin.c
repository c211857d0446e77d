/* A QEMU TCG plug-in (API version 1): instructions executed from one address to another, for the first time round.
 *
 * Arguments: from=ADDRESS to=ADDRESS out=FILE. QEMU's distributors do not ship qemu-plugin.h, so what is used of it is
 * declared here; opaque types stay opaque.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;

enum { NO_REGISTERS = 0, ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*)(uint64_t id, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int operation, void *, uint64_t);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_atexit_cb(uint64_t id, void (*)(uint64_t id, void *), void *);

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv);

static uint64_t executed, from, to, at_start, result;
static int started, done;
static char out[1024];

static void on_from(unsigned cpu, void *user) {
  (void)cpu;
  (void)user;
  if (!started) at_start = executed;
  started = 1;
}

static void on_to(unsigned cpu, void *user) {
  (void)cpu;
  (void)user;
  if (started && !done) {
    result = executed - at_start;
    done = 1;
  }
}

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
  const size_t n = qemu_plugin_tb_n_insns(block);
  (void)id;
  for (size_t i = 0; i < n; ++i) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
    const uint64_t address = qemu_plugin_insn_vaddr(instruction);
    if (address == from) qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_from, NO_REGISTERS, 0);
    if (address == to) qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_to, NO_REGISTERS, 0);
    qemu_plugin_register_vcpu_insn_exec_inline(instruction, ADD_U64, &executed, 1);
  }
}

static void finished(uint64_t id, void *user) {
  FILE *file = fopen(out, "w");
  (void)id;
  (void)user;
  if (file == NULL) return;
  if (done) fprintf(file, "%" PRIu64 "\n", result);
  fclose(file);
}

int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv) {
  (void)info;
  for (int i = 0; i < argc; ++i) {
    if (!strncmp(argv[i], "from=", 5)) from = strtoull(argv[i] + 5, NULL, 0);
    if (!strncmp(argv[i], "to=", 3)) to = strtoull(argv[i] + 3, NULL, 0);
    if (!strncmp(argv[i], "out=", 4)) snprintf(out, sizeof out, "%s", argv[i] + 4);
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, finished, NULL);
  return 0;
}
