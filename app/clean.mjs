// Runs before the package is built: nothing of an earlier build may get into it.
import { rmSync } from 'node:fs';

rmSync(new URL('../dist', import.meta.url), { recursive: true, force: true });
