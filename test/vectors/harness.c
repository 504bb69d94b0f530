/*
 * Executes single instructions on the host CPU and records what they did.
 *
 *   gcc -O1 -o harness harness.c && ./harness INPUTS OUTPUTS      (x86-64 Linux, as root: it maps pages below 64 KiB)
 *
 * INPUTS is an array of struct input, OUTPUTS becomes an array of struct output, in the same order. generate.ts
 * writes the one and reads the other; nothing here knows an instruction.
 *
 * Technique: every case ends in a breakpoint or a fault, and the signal handler both reads the final state from the
 * signal frame and writes the next initial state into it, so that sigreturn enters the next case. RSP may hold
 * anything (the handler has its own stack); CS in the frame selects 64-bit, 32-bit compatibility or 16-bit code.
 */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Keep equal to layout.ts. */
#define DATA_PAGE 0x8000
#define REGION 0x8400
#define REGION_SIZE 256
#define CODE_PAGE 0xa000
#define CODE 0xa200
#define PAGE 4096

struct input {
  uint32_t code_size; /* 16, 32 or 64 */
  uint32_t length;    /* bytes of the instruction */
  uint8_t code[16];
  uint64_t gpr[16];   /* RAX RCX RDX RBX RSP RBP RSI RDI R8..R15 */
  uint32_t flags;
  uint32_t mxcsr;
  uint8_t xmm[256];
  uint8_t memory[REGION_SIZE];
};

struct output {
  uint32_t vector; /* 3: ran to the breakpoint behind it */
  uint32_t error;
  uint64_t rip;
  uint64_t gpr[16];
  uint32_t flags;
  uint32_t mxcsr;
  uint8_t xmm[256];
  uint8_t memory[REGION_SIZE];
};

static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static struct input *inputs;
static struct output *outputs;
static long count, current = -1;
static sigjmp_buf done;
static int code16;

static void die(const char *what) {
  fprintf(stderr, "harness: case %ld: %s\n", current, what);
  _exit(1);
}

static void record(ucontext_t *uc) {
  struct output *out = &outputs[current];
  greg_t *g = uc->uc_mcontext.gregs;
  out->vector = g[REG_TRAPNO];
  out->error = g[REG_ERR];
  out->rip = g[REG_RIP];
  if (out->vector == 3) out->rip--;
  for (int i = 0; i < 16; i++) out->gpr[i] = g[order[i]];
  out->flags = g[REG_EFL];
  out->mxcsr = uc->uc_mcontext.fpregs->mxcsr;
  memcpy(out->xmm, uc->uc_mcontext.fpregs->_xmm, 256);
  memcpy(out->memory, (void *)REGION, REGION_SIZE);
  for (uint8_t *p = (uint8_t *)DATA_PAGE; p < (uint8_t *)DATA_PAGE + PAGE; p++)
    if (*p && (p < (uint8_t *)REGION || p >= (uint8_t *)REGION + REGION_SIZE)) die("it wrote outside the region");
}

static void prepare(ucontext_t *uc) {
  struct input *in = &inputs[current];
  greg_t *g = uc->uc_mcontext.gregs;
  memset((void *)CODE_PAGE, 0xcc, PAGE);
  memcpy((void *)CODE, in->code, in->length);
  memset((void *)DATA_PAGE, 0, PAGE);
  memcpy((void *)REGION, in->memory, REGION_SIZE);
  for (int i = 0; i < 16; i++) g[order[i]] = in->gpr[i];
  g[REG_RIP] = CODE;
  g[REG_EFL] = in->flags;
  uint16_t cs = in->code_size == 64 ? 0x33 : in->code_size == 32 ? 0x23 : code16;
  uint16_t words[4] = {cs, 0, 0, 0x2b}; /* CS GS FS SS */
  memcpy(&g[REG_CSGSFS], words, 8);
  uc->uc_mcontext.fpregs->mxcsr = in->mxcsr;
  memcpy(uc->uc_mcontext.fpregs->_xmm, in->xmm, 256);
  *(uint64_t *)((uint8_t *)uc->uc_mcontext.fpregs + 512) |= 3; /* XSTATE_BV: x87 and SSE are valid in this frame */
}

static void handler(int signal, siginfo_t *info, void *context) {
  (void)signal;
  (void)info;
  if (current >= 0) record(context);
  if (++current == count) siglongjmp(done, 1);
  prepare(context);
  /* sigreturn takes only some flags from the frame; NT and ID stay as they are here, so clear what POPF may have set */
  __asm__ volatile("push $0x202\n\tpopf" ::: "cc", "memory");
}

int main(int argc, char **argv) {
  if (argc != 3) return fprintf(stderr, "usage: harness INPUTS OUTPUTS\n"), 2;
  FILE *f = fopen(argv[1], "rb");
  if (!f) return perror(argv[1]), 1;
  fseek(f, 0, SEEK_END);
  long size = ftell(f);
  count = size / (long)sizeof *inputs;
  rewind(f);
  inputs = malloc(size);
  outputs = calloc(count, sizeof *outputs);
  if (fread(inputs, 1, size, f) != (size_t)size) return perror(argv[1]), 1;
  fclose(f);

  if (mmap((void *)DATA_PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
      mmap((void *)CODE_PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    return perror("mmap (is this root?)"), 1;
  struct user_desc segment = {.entry_number = 0, .base_addr = 0, .limit = 0xfffff, .seg_32bit = 0, .contents = 2, .useable = 1};
  if (syscall(SYS_modify_ldt, 1, &segment, sizeof segment)) return perror("modify_ldt"), 1;
  code16 = 7; /* LDT entry 0, RPL 3 */
  __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"(0x2b)); /* flat data for the 16- and 32-bit code */

  stack_t stack = {.ss_sp = malloc(1 << 20), .ss_size = 1 << 20};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigfillset(&action.sa_mask);
  int signals[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
  for (int i = 0; i < 5; i++) sigaction(signals[i], &action, NULL);
  alarm(300);
  if (!sigsetjmp(done, 1)) __asm__ volatile("int3");

  f = fopen(argv[2], "wb");
  if (!f || fwrite(outputs, sizeof *outputs, count, f) != (size_t)count || fclose(f)) return perror(argv[2]), 1;
  return 0;
}
