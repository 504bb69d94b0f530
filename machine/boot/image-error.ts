/**
 * An image that cannot be loaded: a plain object with one line for the user, never a bug of ours. `offset` is the
 * byte in the file that is wrong, or -1 where the whole image is.
 */
export class ImageError {
  readonly message: string;
  readonly offset: number;

  constructor(message: string, offset = -1) {
    this.message = offset >= 0 ? `${message} (at byte ${offset} of the image)` : message;
    this.offset = offset;
  }

  toString(): string { return this.message; }
}

/** Little-endian reader of an image that never runs past its end. */
export class ImageReader {
  readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number { return this.bytes.length; }
  u8(at: number, what: string): number { return this.need(at, 1, what).getUint8(at); }
  u16(at: number, what: string): number { return this.need(at, 2, what).getUint16(at, true); }
  u32(at: number, what: string): number { return this.need(at, 4, what).getUint32(at, true); }
  u64(at: number, what: string): bigint { return this.need(at, 8, what).getBigUint64(at, true); }

  /** @throws ImageError unless `size` bytes from `at` lie in the file */
  need(at: number, size: number, what: string): DataView {
    if (!(at >= 0 && size >= 0 && at + size <= this.bytes.length)) {
      throw new ImageError(`${what}: needs ${size} bytes from byte ${at}, but the image has ${this.bytes.length}: it is truncated or corrupted`, Math.min(Math.max(at, 0), this.bytes.length));
    }
    return this.view;
  }
}
