import { buildIsa } from '../cpu/isa.ts';
import { vmxRows } from '../vmx/rows.ts';

/** The whole instruction set: one table for every machine of the process. */
export const isa = buildIsa(vmxRows);
