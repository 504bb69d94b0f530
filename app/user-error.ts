/** Bad input: `message` is one line for the user, the exit status is 2. */
export class UserError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UserError';
  }
}

/** 'a, b or c', for messages that say what was expected. */
export function choices(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

/** Text from outside inside a message: on one line, quoted, not too long. */
export function quoted(text: string): string {
  const json = JSON.stringify(text).slice(1, -1);
  return `'${json.length > 80 ? `${json.slice(0, 77)}…` : json}'`;
}

/** What the operating system said, without the call and path that Node adds. */
export function systemReason(error: unknown): string {
  const { code } = error as { readonly code?: unknown };
  const known: Readonly<Record<string, string>> = {
    ENOENT: 'no such file or directory', EISDIR: 'it is a directory', ENOTDIR: 'part of the path is not a directory', EACCES: 'permission denied', EPERM: 'operation not permitted',
    EROFS: 'the file system is read-only', ENOSPC: 'no space left', EEXIST: 'a file of that name is in the way', ELOOP: 'too many symbolic links', ENAMETOOLONG: 'the name is too long', EMFILE: 'too many open files',
  };
  if (typeof code === 'string') return known[code] ?? code;
  return error instanceof Error ? error.message.split('\n')[0]! : String(error);
}

/** Errors of the operating system carry a code such as ENOENT. */
export function isSystemError(error: unknown): boolean {
  return error instanceof Error && typeof (error as { readonly code?: unknown }).code === 'string' && typeof (error as { readonly errno?: unknown }).errno === 'number';
}
