/** Delivery modes of local vector table entries, interrupt commands and I/O APIC entries (SDM "Local Vector Table", "Interrupt Command Register"). */
export const Delivery = { Fixed: 0, LowestPriority: 1, Smi: 2, Nmi: 4, Init: 5, StartUp: 6, ExtInt: 7 } as const;

/** An interrupt message: from an interrupt command register or an I/O APIC entry. */
export interface ApicMessage {
  readonly vector: number;
  readonly delivery: number;
  readonly level: boolean;
  readonly logical: boolean;
  readonly destination: number;
  /** 0 by destination, 1 self, 2 all including self, 3 all but self. */
  readonly shorthand: number;
}

/** What a message can reach: one local APIC. */
export interface MessageTarget {
  readonly cpu: number;
  readonly processorPriority: number;
  /** Whether a message with this destination is for it. */
  matches(destination: number, logical: boolean): boolean;
  accept(message: ApicMessage): void;
}

/** Delivers interrupt messages among the local APICs of one machine. */
export class ApicBus {
  private readonly apics: readonly MessageTarget[];
  constructor(apics: readonly MessageTarget[]) { this.apics = apics; }

  /** @param from sender's CPU, or -1 for the I/O APIC (no shorthand then). Returns whether anyone was addressed. */
  deliver(from: number, message: ApicMessage): boolean {
    let targets: MessageTarget[];
    switch (message.shorthand) {
      case 1: targets = this.apics.filter(a => a.cpu === from); break;
      case 2: targets = [...this.apics]; break;
      case 3: targets = this.apics.filter(a => a.cpu !== from); break;
      default: targets = this.apics.filter(a => a.matches(message.destination, message.logical));
    }
    if (message.delivery === Delivery.LowestPriority && targets.length > 1) {
      // lowest processor priority wins, ties by CPU number
      targets = [targets.reduce((best, a) => (a.processorPriority < best.processorPriority ? a : best))];
    }
    for (const apic of targets) apic.accept(message);
    return targets.length > 0;
  }
}
