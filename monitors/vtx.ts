import type { Bus } from '../cpu/bus.ts';
import { ChargeTo } from '../cpu/cpu.ts';
import { EventType } from '../cpu/events.ts';
import { Vector } from '../cpu/fault.ts';
import type { Observer, VmExitEvent } from '../cpu/observer.ts';
import { encodeEptPointer } from '../ept/eptp.ts';
import { EptEntry } from '../ept/format.ts';
import type { LoadPlan } from '../machine/boot/load-plan.ts';
import type { MachineProfile } from '../machine/profile.ts';
import { Capability } from '../vmcs/capability.ts';
import { ControlGroup, Entry, Exit, PinBased, Primary, Secondary, type Control } from '../vmcs/control.ts';
import { Field } from '../vmcs/field.ts';
import { vmxOf } from '../vmx/operation.ts';
import { reasonName, VmExitReason } from '../vmx/reason.ts';
import { Emulator } from './emulator.ts';
import {
  Cr0Bits, Cr4Bits, EferBits, enterHost, FlagBits, loadVirtual, pdptes, setHalted, setPageFaultAddress, shutDown, storeVirtual, TRANSFER_FIELDS, type VirtualControl,
} from './guest-registers.ts';
import { hostBus } from './host-bus.ts';
import type { Monitor, MonitorKind, VirtualMachine } from './monitor.ts';
import { PagePool } from './page-pool.ts';
import { Port } from './port.ts';
import { Shadow } from './shadow.ts';

/** Vector that the host's own timer interrupt has. */
const HOST_TIMER = 0x20;
/** Guest-physical page of the identity tables that unpaged guests run on under EPT without unrestricted guest. */
const IDENTITY_PAGE = 0xfffbc000;
const LARGE = 2 ** 21;
const GUEST_VPID = 1;
/** Offsets of the entries of the firmware page. */
const Entrance = { Exit: 0, Wake: 16 } as const;
/** CR0 bits that the guest may change without an exit. */
const CR0_FREE = Cr0Bits.TS;
/** MSRs that live in the CPU or the VMCS while the guest runs and need no interception. */
const passThrough = [0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103];

type Paging = 'ept' | 'shadow';

/**
 * A monitor on VT-x: one VMCS, the guest's memory behind EPT or shadow page tables, everything else by exits. The
 * structures are real and live in the machine's memory; the monitor's code is entered through its firmware page,
 * which is where the host RIP of the VMCS points.
 */
class Vtx implements Monitor {
  readonly name: string;
  readonly hostBus: Bus;
  halted = false;
  private readonly vm: VirtualMachine;
  private readonly paging: Paging;
  private readonly port: Port;
  private readonly pool: PagePool;
  private readonly emulator: Emulator;
  private readonly capability: Capability;
  private readonly shadow: Shadow | null;
  private readonly control: VirtualControl = { cr0: 0, cr3: 0, cr4: 0, efer: 0 };
  private readonly firmware: number;
  private readonly unrestricted: boolean;
  private eptRoot = 0;
  private launched = false;
  private windowOpen = false;
  private pendingInjection = false;
  private exitEvent: VmExitEvent | null = null;
  private chargedAtExit = 0;

  constructor(vm: VirtualMachine, paging: Paging, name: string) {
    this.name = name;
    this.vm = vm;
    this.paging = paging;
    this.port = new Port(vm);
    const { cpu } = vm.core;
    this.capability = vmxOf(cpu).capability;
    this.pool = new PagePool(cpu.memory, vm.monitorStart, vm.monitorEnd);
    this.firmware = this.pool.take();
    this.unrestricted = paging === 'ept' && this.capability.supports(Secondary.UnrestrictedGuest);
    this.emulator = new Emulator(vm, guestFeatures(vm.profile, this.capability, paging));
    this.shadow = paging === 'shadow' ? new Shadow(vm, this.port, this.pool, { tlb: { page: (linear) => this.invalidate(linear), all: () => this.invalidate() } }) : null;
    this.hostBus = this.makeHostBus();
    cpu.firmware = { page: this.firmware / 4096, call: (_cpu, offset) => (offset === Entrance.Exit ? this.exited() : this.woken()) };
    this.watchExits();
  }

  /** The machine under a monitor has no devices but the host's timer. */
  private makeHostBus(): Bus {
    const { core } = this.vm;
    return hostBus(() => {
      core.execution.interruptRequest(false);
      return HOST_TIMER;
    });
  }
  /** Notes when the guest was left, before the exit is billed. */
  private watchExits(): void {
    const { cpu } = this.vm.core;
    const outer: Observer = cpu.observer ?? {};
    cpu.observer = {
      ...outer,
      vmExit: (event) => {
        this.exitEvent = event;
        this.chargedAtExit = cpu.chargedTotal;
        outer.vmExit?.(event);
      },
    };
  }

  // --- set-up --------------------------------------------------------------------------------------------------
  start(plan: LoadPlan): void {
    const { vm, pool, port } = this;
    const { cpu } = vm.core;
    const host = this.hostEnvironment();
    enterHost(cpu, { ...host, rip: this.firmware + Entrance.Wake });
    const vmx = vmxOf(cpu);
    const vmxon = pool.take();
    const region = pool.take();
    cpu.writePhysical(vmxon, 4, this.capability.profile.revision);
    cpu.writePhysical(region, 4, this.capability.profile.revision);
    vmx.enable(cpu, vmxon);
    vmx.clear(cpu, region);
    vmx.load(cpu, region);
    this.controls();
    this.hostState(host);
    // the guest's entry state goes through the virtual CPU, like every later change
    const { entry } = plan;
    const guest = this.emulator.cpu;
    for (const [n, value] of entry.registers) guest.setReg32(n, value);
    entry.segments.forEach((s, n) => guest.setSegment(n, s.selector, s.base, s.limit, s.attributes));
    guest.flags = 2;
    guest.rip = entry.rip;
    this.emulator.reset(entry);
    this.control.cr0 = entry.cr0;
    this.control.cr3 = entry.cr3;
    this.control.cr4 = entry.cr4;
    this.control.efer = entry.efer;
    port.vmwrite(Field.VmcsLinkPointer, 0xffffffff, 0xffffffff);
    this.commit();
    this.applyMode();
  }

  /** Host page tables (first 4 GiB, identity, 2 MiB pages), GDT and TSS in the monitor's memory. */
  private hostEnvironment(): { cr3: number; gdt: number; tss: number; stack: number } {
    const { port, pool } = this;
    const pml4 = pool.take();
    const pdpt = pool.take();
    port.writeHost(pml4, pdpt | 3);
    for (let i = 0; i < 4; i++) {
      const pd = pool.take();
      port.writeHost(pdpt + i * 8, pd | 3);
      for (let n = 0; n < 512; n++) port.writeHost(pd + n * 8, (((i * 512 + n) * LARGE) | 0x83) >>> 0);
    }
    const gdt = pool.take();
    const tss = gdt + 0x100;
    const words = [0, 0, 0xffff, 0x00af9b00, 0xffff, 0x00cf9300, 0x67 | ((tss & 0xffff) << 16), ((tss >>> 16) & 0xff) | 0x8b00 | (tss & 0xff000000), 0, 0];
    words.forEach((word, i) => port.writeHost(gdt + i * 4, word));
    return { cr3: pml4, gdt, tss, stack: pool.take() + 4096 };
  }

  private allowed(group: ControlGroup, wanted: readonly Control[]): number {
    let value = this.capability.mustBe1[group];
    for (const control of wanted) if (this.capability.supports(control)) value |= control.mask;
    return value >>> 0;
  }

  private controls(): void {
    const { port, capability } = this;
    const ept = this.paging === 'ept';
    port.vmwrite(Field.PinBasedControls, this.allowed(ControlGroup.PinBased, [PinBased.ExternalInterruptExiting, PinBased.NmiExiting]));
    const primary = [Primary.HltExiting, Primary.UnconditionalIoExiting, Primary.UseMsrBitmaps, Primary.ActivateSecondaryControls, Primary.Cr8LoadExiting, Primary.Cr8StoreExiting,
      Primary.MwaitExiting, Primary.MonitorExiting, Primary.RdpmcExiting, ...(ept ? [] : [Primary.InvlpgExiting, Primary.Cr3LoadExiting, Primary.Cr3StoreExiting])];
    port.vmwrite(Field.PrimaryControls, this.allowed(ControlGroup.Primary, primary));
    if (capability.supports(Primary.ActivateSecondaryControls)) {
      const secondary = [Secondary.EnableVpid, Secondary.EnableRdtscp, Secondary.WbinvdExiting, ...(ept ? [Secondary.EnableEpt, Secondary.EnableInvpcid] : []), ...(this.unrestricted ? [Secondary.UnrestrictedGuest] : [])];
      port.vmwrite(Field.SecondaryControls, this.allowed(ControlGroup.Secondary, secondary));
      if (capability.supports(Secondary.EnableVpid)) port.vmwrite(Field.VirtualProcessorIdentifier, GUEST_VPID);
    }
    if (capability.supports(Primary.UseMsrBitmaps)) {
      const bitmap = this.pool.take();
      for (let i = 0; i < 1024; i++) port.writeHost(bitmap + i * 4, 0xffffffff);
      for (const msr of passThrough) {
        const bit = (msr & 0x1fff) + (msr >= 0xc0000000 ? 8192 : 0);
        for (const half of [0, 2048]) {
          const word = bitmap + half + (bit >>> 5) * 4;
          port.writeHost(word, port.readHost(word) & ~(1 << (bit & 31)));
        }
      }
      port.vmwrite(Field.MsrBitmaps, bitmap);
    }
    port.vmwrite(Field.PrimaryExitControls, this.allowed(ControlGroup.Exit, [Exit.HostAddressSpaceSize, Exit.AcknowledgeInterrupt, Exit.SaveEfer, Exit.LoadEfer, Exit.SavePat, Exit.LoadPat]));
    port.vmwrite(Field.EntryControls, this.entryControls(false));
    if (!ept) port.vmwrite(Field.ExceptionBitmap, 1 << Vector.PageFault);
    if (ept) this.prepareEpt();
  }
  private entryControls(long: boolean): number {
    return this.allowed(ControlGroup.Entry, [Entry.LoadEfer, Entry.LoadPat, Entry.LoadDebugControls, ...(long ? [Entry.Ia32eModeGuest] : [])]);
  }

  private hostState(host: { cr3: number; gdt: number; tss: number; stack: number }): void {
    const { port, capability } = this;
    port.vmwrite(Field.HostCr0, Cr0Bits.PG | Cr0Bits.PE | Cr0Bits.NE | Cr0Bits.ET | Cr0Bits.WP);
    port.vmwriteNumber(Field.HostCr3, host.cr3);
    port.vmwrite(Field.HostCr4, Cr4Bits.PAE | Cr4Bits.VMXE | Cr4Bits.OSFXSR | Cr4Bits.OSXMMEXCPT);
    for (const field of [Field.HostEsSelector, Field.HostSsSelector, Field.HostDsSelector, Field.HostFsSelector, Field.HostGsSelector]) port.vmwrite(field, 0x10);
    port.vmwrite(Field.HostCsSelector, 8);
    port.vmwrite(Field.HostTrSelector, 0x18);
    port.vmwriteNumber(Field.HostTrBase, host.tss);
    port.vmwriteNumber(Field.HostGdtrBase, host.gdt);
    port.vmwriteNumber(Field.HostRsp, host.stack);
    port.vmwriteNumber(Field.HostRip, this.firmware + Entrance.Exit);
    if (capability.supports(Exit.LoadEfer)) port.vmwrite(Field.HostIa32Efer, EferBits.LME | EferBits.LMA | EferBits.NXE);
    if (capability.supports(Exit.LoadPat)) port.vmwrite(Field.HostIa32Pat, 0x00070406, 0x00070406);
    if (capability.supports(Entry.LoadPat)) port.vmwrite(Field.GuestIa32Pat, 0x00070406, 0x00070406);
  }

  /** An empty EPT; guest memory is mapped in 2 MiB pages when it is first touched. */
  private prepareEpt(): void {
    const { port, pool } = this;
    const pml4 = pool.take();
    const pdpt = pool.take();
    port.writeHost(pml4, pdpt | EptEntry.Permissions);
    this.eptRoot = pdpt;
    const [low, high] = encodeEptPointer(pml4, this.capability.profile.ept!.accessedDirty);
    port.vmwrite(Field.EptPointer, low, high);
    if (this.unrestricted) return;
    // 1024 large pages that map 4 GiB onto themselves
    const identity = pool.take();
    for (let n = 0; n < 1024; n++) port.writeHost(identity + n * 4, ((n << 22) | 0xe7) >>> 0);
    const table = pool.take();
    port.writeHost(table + ((IDENTITY_PAGE >>> 12) & 511) * 8, identity | EptEntry.Permissions | (6 << EptEntry.MemoryTypeShift));
    port.writeHost(this.eptDirectory(IDENTITY_PAGE) + ((IDENTITY_PAGE >>> 21) & 511) * 8, table | EptEntry.Permissions);
  }
  /** Page directory for the gigabyte of a guest-physical address. */
  private eptDirectory(guestPhysical: number): number {
    const slot = this.eptRoot + (Math.floor(guestPhysical / 2 ** 30) & 511) * 8;
    const entry = this.port.readHost(slot);
    if (entry) return (entry & 0xfffff000) >>> 0;
    const directory = this.pool.take();
    this.port.writeHost(slot, directory | EptEntry.Permissions);
    return directory;
  }

  /**
   * INVVPID for the guest's translations: with VPID they outlive transitions, so whoever changes what lies behind
   * them must say so. Without VPID every transition flushes.
   */
  private invalidate(linear?: number): void {
    if (!this.capability.supports(Secondary.EnableVpid)) return;
    this.port.invalidateVpid(GUEST_VPID, linear);
  }

  // --- guest state ---------------------------------------------------------------------------------------------
  /** Brings the guest's state into the emulator. */
  private fetch(): void {
    const { cpu } = this.vm.core;
    const v = vmxOf(cpu).vmcs;
    this.port.spend('monitor.dispatch');
    cpu.charge(cpu.costs['vmread']! * TRANSFER_FIELDS, ChargeTo.Monitor);
    this.control.cr0 = ((this.control.cr0 & ~CR0_FREE) | (v.low(Field.GuestCr0) & CR0_FREE)) >>> 0;
    if (this.cr3Live) this.control.cr3 = v.low(Field.GuestCr3) + (v.high(Field.GuestCr3) & 0xfffff) * 2 ** 32;
    loadVirtual(this.emulator.cpu, cpu, v, this.control);
  }
  /** Takes the guest's state back from the emulator. */
  private commit(): void {
    const { cpu } = this.vm.core;
    storeVirtual(this.emulator.cpu, cpu, (field, low, high) => this.port.vmwrite(field, low, high), this.control);
  }
  /** The guest writes CR3 without exits: paged guests under EPT. */
  private get cr3Live(): boolean { return this.paging === 'ept' && (this.unrestricted || (this.control.cr0 & Cr0Bits.PG) !== 0); }

  /** Real control registers for the guest's beliefs: what VMX fixes, what the monitor owns, and the paging in force. */
  private applyMode(): void {
    const { port, control, capability } = this;
    this.invalidate();
    const paged = (control.cr0 & Cr0Bits.PG) !== 0;
    const long = (control.efer & EferBits.LMA) !== 0;
    let cr0 = control.cr0 | Cr0Bits.NE;
    let cr4 = control.cr4 | Cr4Bits.VMXE;
    if (!this.unrestricted) cr0 |= Cr0Bits.PG | Cr0Bits.PE;
    // memory is write-back here; a guest's CD would have no meaning
    cr0 &= ~(Cr0Bits.CD | Cr0Bits.NW);
    let cr3 = control.cr3;
    if (this.shadow) {
      cr0 |= Cr0Bits.WP;
      this.shadow.setGuest({ paged, pae: (control.cr4 & Cr4Bits.PAE) !== 0, long, cr0: control.cr0, cr3: control.cr3, cr4: control.cr4, efer: control.efer, pdptes: pdptes(this.emulator.cpu) });
      cr3 = this.shadow.root;
      cr4 = (cr4 & ~(Cr4Bits.PAE | Cr4Bits.PSE | Cr4Bits.PGE | Cr4Bits.PCIDE | Cr4Bits.SMEP | Cr4Bits.SMAP)) | (this.shadow.pae ? Cr4Bits.PAE : 0);
    } else if (!paged && !this.unrestricted) {
      cr3 = IDENTITY_PAGE;
      cr4 = (cr4 & ~Cr4Bits.PAE) | Cr4Bits.PSE;
    }
    port.vmwrite(Field.GuestCr0, cr0);
    port.vmwrite(Field.Cr0GuestHostMask, ~CR0_FREE);
    port.vmwrite(Field.Cr0ReadShadow, control.cr0);
    port.vmwrite(Field.GuestCr4, cr4);
    port.vmwrite(Field.Cr4GuestHostMask, 0xffffffff);
    port.vmwrite(Field.Cr4ReadShadow, control.cr4);
    port.vmwriteNumber(Field.GuestCr3, cr3);
    if (capability.supports(Entry.LoadEfer)) port.vmwrite(Field.GuestIa32Efer, (long ? control.efer : control.efer & ~(EferBits.LMA | (paged || !this.unrestricted ? EferBits.LME : 0))) | (this.shadow?.pae && !long ? EferBits.NXE & control.efer : 0));
    else this.setRealEfer();
    port.vmwrite(Field.EntryControls, this.entryControls(long));
    if (this.paging === 'ept') {
      const wanted = this.cr3Live ? 0 : Primary.Cr3LoadExiting.mask | Primary.Cr3StoreExiting.mask;
      const now = port.vmread(Field.PrimaryControls);
      port.vmwrite(Field.PrimaryControls, ((now & ~(Primary.Cr3LoadExiting.mask | Primary.Cr3StoreExiting.mask)) | wanted | capability.mustBe1.Primary) >>> 0);
      if (paged && !long && control.cr4 & Cr4Bits.PAE) {
        const entries = [Field.GuestPdpte0, Field.GuestPdpte1, Field.GuestPdpte2, Field.GuestPdpte3];
        pdptes(this.emulator.cpu).forEach(([low, high], n) => port.vmwrite(entries[n]!, low, high));
      }
    }
  }
  /** Without EFER controls the guest's SCE and NXE stay in the real register while the host runs. */
  private setRealEfer(): void {
    const { cpu } = this.vm.core;
    this.port.spend('wrmsr');
    this.emulator.copyEfer(cpu, this.control.efer & (EferBits.SCE | EferBits.NXE));
  }

  // --- exits ---------------------------------------------------------------------------------------------------
  private exited(): void {
    const { vm } = this;
    const { cpu } = vm.core;
    const event = this.exitEvent!;
    vm.ledger.enter('vmExit', event.name, cpu.retired, event.cycles, this.chargedAtExit, event.rip.toString(16), event.why);
    const reason = this.port.vmread(Field.ExitReason);
    this.pendingInjection = false;
    if (reason >>> 31) return this.fail(`VM entry failed with exit reason ${reason & 0xffff}`);
    this.handle(reason & 0xffff);
    if (!this.halted) this.resume();
  }

  private handle(reason: number): void {
    const { port } = this;
    switch (reason) {
      case VmExitReason.ExternalInterrupt:
      case VmExitReason.InterruptWindow:
        port.spend('monitor.dispatch');
        return this.carryOver();
      case VmExitReason.Hlt: {
        this.skipInstruction('hlt');
        if (!this.vm.platform.interruptLine(0)) this.park();
        return;
      }
      case VmExitReason.ExceptionOrNmi: return this.exception();
      case VmExitReason.EptViolation: return this.eptViolation();
      case VmExitReason.TripleFault:
        shutDown(this.vm.core.cpu);
        this.halted = true;
        return;
      case VmExitReason.Cpuid: case VmExitReason.IoInstruction: case VmExitReason.Rdmsr: case VmExitReason.Wrmsr: case VmExitReason.CrAccess: case VmExitReason.Invlpg:
      case VmExitReason.Rdpmc: case VmExitReason.Wbinvd: case VmExitReason.Invd: case VmExitReason.Xsetbv: case VmExitReason.TaskSwitch: case VmExitReason.Invpcid: case VmExitReason.Rdtsc:
      case VmExitReason.Rdtscp: case VmExitReason.MovDr: case VmExitReason.Monitor: case VmExitReason.Mwait:
        if (reason === VmExitReason.Invlpg && this.shadow && !this.vectoring()) return this.invlpg();
        return this.emulate(reason === VmExitReason.IoInstruction ? 'monitor.device' : null);
      case VmExitReason.Vmcall: case VmExitReason.Vmclear: case VmExitReason.Vmlaunch: case VmExitReason.Vmptrld: case VmExitReason.Vmptrst: case VmExitReason.Vmread: case VmExitReason.Vmresume:
      case VmExitReason.Vmwrite: case VmExitReason.Vmxoff: case VmExitReason.Vmxon: case VmExitReason.Invept: case VmExitReason.Invvpid: case VmExitReason.Getsec:
        // VMX is hidden from the guest
        return this.inject(EventType.HardwareException, Vector.InvalidOpcode, -1);
      default: return this.fail(`exit ${reasonName(reason)} is not handled by this monitor`);
    }
  }

  private fail(reason: string): void {
    this.halted = true;
    this.vm.fail(`${this.name}: ${reason}`);
    shutDown(this.vm.core.cpu);
  }

  /** An event was being delivered when the exit happened. */
  private vectoring(): boolean { return this.port.vmread(Field.IdtVectoringInformation) >>> 31 !== 0; }

  /** Delivers again an event whose delivery the exit cut short. */
  private carryOver(): void {
    const { port } = this;
    const information = port.vmread(Field.IdtVectoringInformation);
    if (!(information >>> 31) || this.pendingInjection) return;
    const type = (information >>> 8) & 7;
    port.vmwrite(Field.EntryInterruptionInformation, information & 0x80000fff);
    if (information & 0x800) port.vmwrite(Field.EntryExceptionErrorCode, port.vmread(Field.IdtVectoringErrorCode));
    if (type >= EventType.SoftwareInterrupt) port.vmwrite(Field.EntryInstructionLength, port.vmread(Field.ExitInstructionLength));
    this.pendingInjection = true;
  }

  private exception(): void {
    const { port, shadow } = this;
    const information = port.vmread(Field.ExitInterruptionInformation);
    if ((information & 0xff) !== Vector.PageFault || !shadow) return this.fail(`unexpected exception exit ${(information >>> 0).toString(16)}`);
    port.spend('monitor.dispatch');
    const linear = port.vmreadNumber(Field.ExitQualification);
    const error = port.vmread(Field.ExitInterruptionErrorCode);
    this.noteCr0();
    const result = shadow.fault(linear, error, (port.vmread(Field.GuestRflags) & 0x40000) !== 0);
    if (result === 'filled') {
      this.vm.ledger.rename('ExceptionOrNmi #PF hidden', 'exception bitmap bit 14; the shadow page table lacked the translation');
      return this.carryOver();
    }
    if ('device' in result) {
      this.vm.ledger.rename('ExceptionOrNmi #PF device', 'exception bitmap bit 14; the page belongs to a device');
      return this.emulate('monitor.device');
    }
    this.vm.ledger.rename('ExceptionOrNmi #PF guest', 'exception bitmap bit 14; the fault is the guest\'s own');
    if (this.vectoring()) return this.nestedFault();
    setPageFaultAddress(this.vm.core.cpu, linear);
    this.inject(EventType.HardwareException, Vector.PageFault, result.guestFault);
  }
  private noteCr0(): void {
    const v = vmxOf(this.vm.core.cpu).vmcs;
    this.control.cr0 = ((this.control.cr0 & ~CR0_FREE) | (v.low(Field.GuestCr0) & CR0_FREE)) >>> 0;
  }

  /** A guest page fault during the delivery of another event: the virtual CPU sorts out double faults. */
  private nestedFault(): void {
    this.fetch();
    const information = this.port.vmread(Field.IdtVectoringInformation);
    this.emulator.deliver({
      type: ((information >>> 8) & 7) as EventType, vector: information & 0xff, error: information & 0x800 ? this.port.vmread(Field.IdtVectoringErrorCode) : -1, data: 0,
      length: this.port.vmread(Field.ExitInstructionLength),
    });
    this.finishEmulation(false);
  }

  private eptViolation(): void {
    const { port, vm } = this;
    port.spend('monitor.dispatch');
    const guestPhysical = port.vmreadNumber(Field.GuestPhysicalAddress);
    if (guestPhysical < vm.memorySize) {
      vm.ledger.rename('EptViolation', 'the EPT had no mapping yet for this 2 MiB of guest memory');
      const slot = this.eptDirectory(guestPhysical) + ((guestPhysical >>> 21) & 511) * 8;
      const host = Math.floor(guestPhysical / LARGE) * LARGE + vm.memoryOffset;
      port.writeHost(slot, (host | EptEntry.Page | EptEntry.Permissions | (6 << EptEntry.MemoryTypeShift)) >>> 0);
      return this.carryOver();
    }
    vm.ledger.rename('EptViolation device', 'the guest-physical page belongs to a device and is not mapped');
    this.emulate('monitor.device');
  }

  private invlpg(): void {
    const { port } = this;
    port.spend('monitor.dispatch');
    this.shadow!.invalidate(port.vmreadNumber(Field.ExitQualification));
    this.skipInstruction('invlpg');
  }

  /** Moves RIP behind the instruction that exited; it retires here. */
  private skipInstruction(cost: string): void {
    const { port } = this;
    const { cpu } = this.vm.core;
    const length = port.vmread(Field.ExitInstructionLength);
    const next = port.vmreadNumber(Field.GuestRip) + length;
    port.vmwriteNumber(Field.GuestRip, (this.control.efer & EferBits.LMA) !== 0 && port.vmread(Field.GuestCsAccessRights) & 0x2000 ? next : next >>> 0);
    port.vmwrite(Field.GuestInterruptibilityState, 0);
    cpu.retire(Math.max(1, Math.round(cpu.costs[cost]!)));
  }

  /** Executes the guest's instruction on the virtual CPU, with all its effects. */
  private emulate(extra: string | null): void {
    if (this.vectoring()) return this.nestedFault();
    this.fetch();
    this.port.spend('monitor.decode');
    this.port.spend('monitor.emulate');
    if (extra) this.port.spend(extra);
    const { fault, halted } = this.emulator.step(this.vm.core.cpu);
    if (fault) this.emulator.raise(fault);
    this.finishEmulation(halted);
  }
  private finishEmulation(halted: boolean): void {
    const before = { ...this.control };
    this.commit();
    const { control } = this;
    if (this.emulator.shutDown) {
      shutDown(this.vm.core.cpu);
      this.halted = true;
      return;
    }
    if (control.cr0 !== before.cr0 || control.cr3 !== before.cr3 || control.cr4 !== before.cr4 || control.efer !== before.efer) this.applyMode();
    else if (this.shadow && this.emulator.loadedCr3) this.applyMode();
    if (halted && !this.vm.platform.interruptLine(0)) this.park();
  }

  private inject(type: number, vector: number, error: number): void {
    const { port } = this;
    port.spend('monitor.inject');
    port.vmwrite(Field.EntryInterruptionInformation, (0x80000000 | (type << 8) | vector | (error >= 0 ? 0x800 : 0)) >>> 0);
    if (error >= 0) port.vmwrite(Field.EntryExceptionErrorCode, error);
    this.pendingInjection = true;
  }

  /** The guest waits for an interrupt: so does the host. */
  private park(): void {
    const { core } = this.vm;
    this.halted = true;
    core.cpu.rip = this.firmware + Entrance.Wake;
    setHalted(core.cpu, true);
    core.cpu.leaveSoon();
  }
  /** First start, or a wake-up from the parked state. */
  private woken(): void {
    this.halted = false;
    this.resume();
  }

  /** Back into the guest, with whatever interrupt it can take. */
  private resume(): void {
    const { vm, port } = this;
    const { cpu } = vm.core;
    let window = false;
    if (vm.platform.interruptLine(0)) {
      const open = !this.pendingInjection && (port.vmread(Field.GuestRflags) & FlagBits.IF) !== 0 && (port.vmread(Field.GuestInterruptibilityState) & 3) === 0;
      if (open) {
        const vector = vm.platform.acknowledge(0);
        if (vector >= 0) this.inject(EventType.ExternalInterrupt, vector, -1);
        window = vm.platform.interruptLine(0);
      } else window = true;
    }
    if (window !== this.windowOpen) {
      const now = port.vmread(Field.PrimaryControls);
      port.vmwrite(Field.PrimaryControls, (window ? now | Primary.InterruptWindowExiting.mask : now & ~Primary.InterruptWindowExiting.mask) >>> 0);
      this.windowOpen = window;
    }
    this.exitEvent = null;
    port.enterGuest(!this.launched);
    this.launched = true;
    // delivering an injected event may exit at once; that exit's transition is its own
    vm.ledger.leave(this.leftAgain() ? this.chargedAtExit : cpu.chargedTotal);
    if (window) cpu.leaveSoon();
  }

  /** Whether the guest has been left since it was last entered. */
  private leftAgain(): boolean { return this.exitEvent !== null; }

  interruptRequest(level: boolean): void {
    const { core, ledger } = this.vm;
    if (!level) return;
    if (this.halted) {
      this.halted = false;
      setHalted(core.cpu, false);
      return;
    }
    // the host's timer interrupts the guest; while the monitor runs it sees the request by itself
    if (!ledger.handling && !this.windowOpen) core.execution.interruptRequest(true);
  }

  save(): unknown {
    return {
      control: { ...this.control }, launched: this.launched, windowOpen: this.windowOpen, halted: this.halted, pool: this.pool.save(), emulator: this.emulator.save(), shadow: this.shadow?.save() ?? null,
      exitEvent: this.exitEvent && { ...this.exitEvent }, chargedAtExit: this.chargedAtExit,
    };
  }
  load(saved: unknown): void {
    const s = saved as { control: VirtualControl; launched: boolean; windowOpen: boolean; halted: boolean; pool: unknown; emulator: unknown; shadow: unknown; exitEvent: VmExitEvent | null; chargedAtExit: number };
    Object.assign(this.control, s.control);
    this.launched = s.launched;
    this.windowOpen = s.windowOpen;
    this.halted = s.halted;
    this.pool.load(s.pool);
    this.emulator.load(s.emulator);
    this.shadow?.load(s.shadow);
    this.exitEvent = s.exitEvent;
    this.chargedAtExit = s.chargedAtExit;
  }
}

/** CPUID features the guest gets: no VMX, and nothing that needs a control or paging mode the monitor cannot give it. */
function guestFeatures(profile: MachineProfile, capability: Capability, paging: Paging): string[] {
  const hidden = new Set(['VMX']);
  if (!capability.supports(Secondary.EnableRdtscp)) hidden.add('RDTSCP');
  if (!capability.supports(Secondary.EnableInvpcid) || paging === 'shadow') hidden.add('INVPCID');
  if (paging === 'shadow') for (const name of ['PCID', 'SMEP', 'SMAP']) hidden.add(name);
  return profile.cpu.features.filter((name) => !hidden.has(name));
}

const MIB = 2 ** 20;
const capabilityOf = (profile: MachineProfile): Capability => new Capability(profile.vmx);

function unableEither(profile: MachineProfile): string | null {
  return profile.cpu.features.includes('VMX') ? null : `profile ${profile.name} has no VT-x`;
}

/** VT-x with EPT: the guest changes its own page tables freely. */
export const vtxEpt: MonitorKind = {
  name: 'vtx-ept',
  title: 'VT-x with EPT',
  description: 'the guest runs in VMX non-root operation, its memory behind extended page tables',
  memory: () => 8 * MIB,
  unable: (profile, plan) => {
    const none = unableEither(profile);
    if (none) return none;
    const capability = capabilityOf(profile);
    if (!capability.supports(Secondary.EnableEpt)) return `profile ${profile.name} has no EPT`;
    if (plan.entry.mode === 'real' && !capability.supports(Secondary.UnrestrictedGuest)) return `profile ${profile.name} has no unrestricted guest: real mode cannot run in VMX non-root operation`;
    return null;
  },
  create: (vm) => new Vtx(vm, 'ept', 'vtx-ept'),
};

/** VT-x with shadow page tables, as the first generation had to. */
export const vtxShadow: MonitorKind = {
  name: 'vtx-shadow',
  title: 'VT-x with shadow paging',
  description: 'the guest runs in VMX non-root operation on shadow page tables that the monitor derives from its own',
  memory: (guestMemory) => Math.ceil((8 * MIB + guestMemory / 8) / (4 * MIB)) * 4 * MIB,
  unable: (profile, plan) => unableEither(profile) ?? (plan.entry.mode === 'real' ? 'real mode cannot run on shadow page tables' : null),
  create: (vm) => new Vtx(vm, 'shadow', 'vtx-shadow'),
};
