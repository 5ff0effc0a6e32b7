/**
 * Puts the last touch to an MP4 of the WebAssembly encoder, which writes its index (`moov`) at the end, knows whole
 * frames a second only and says nothing about colour. The index goes to the front, so that a player can begin before it
 * has the whole file; the times are those of the true rate; a `colr` box says BT.709, so that no player guesses.
 * Boxes as in ISO/IEC 14496-12: size (4 bytes), type (4), content.
 */

/** The same video with its index first, `fps` frames a second and the colour named. Expects one H.264 track with 32-bit fields. */
export function layOutMp4(file: Uint8Array, fps: number): Uint8Array {
  const boxes = split(Buffer.from(file.buffer, file.byteOffset, file.byteLength))
  const [ftyp, moov, mdat] = ['ftyp', 'moov', 'mdat'].map((type) => boxes.find((each) => each.type === type))
  if (!ftyp || !moov || !mdat)
    throw new Error(`not an MP4 file: boxes ${boxes.map(({ type }) => type).join(', ')}`)
  const frames = moov.bytes.readUInt32BE(moov.bytes.indexOf('stsz') + 12)
  const index = rewrite(moov.bytes, { frames, ticksASecond: Math.round(fps * ticksAFrame) })
  moveChunks(index, ftyp.bytes.length + index.length - mdat.start)
  return Buffer.concat([ftyp.bytes, index, mdat.bytes])
}

/** Fine enough for 23.976. */
const ticksAFrame = 1000

/** Colour primaries, transfer and matrix 1 = BT.709, limited range (§12.1.5). */
const bt709 = box('colr', Buffer.concat([Buffer.from('nclx'), Buffer.from([0, 1, 0, 1, 0, 1, 0])]))

/** Boxes with something to change inside, and how many bytes of their content stand before their inner boxes. */
const parents: Record<string, number> = { moov: 0, trak: 0, mdia: 0, minf: 0, stbl: 0, stsd: 8, avc1: 78 }

interface Timing {
  frames: number
  ticksASecond: number
}

/** A copy of a box with times and colour set, everything else as it was. */
function rewrite(bytes: Buffer, timing: Timing): Buffer {
  const type = typeOf(bytes, 0)
  const ownBytes = parents[type]
  if (ownBytes === undefined) return box(type, withTimes(type, Buffer.from(bytes.subarray(8)), timing))
  const innerAt = 8 + ownBytes
  const inner = split(bytes.subarray(innerAt)).map((child) => rewrite(child.bytes, timing))
  if (type === 'avc1') inner.push(bt709)
  return box(type, Buffer.concat([bytes.subarray(8, innerAt), ...inner]))
}

/** Sets the fields of the four boxes that speak of time (§8.2.2, §8.3.2, §8.4.2, §8.6.1.2; version 0). */
function withTimes(type: string, content: Buffer, { frames, ticksASecond }: Timing): Buffer {
  const duration = frames * ticksAFrame
  if (type === 'mvhd' || type === 'mdhd') {
    content.writeUInt32BE(ticksASecond, 12)
    content.writeUInt32BE(duration, 16)
  } else if (type === 'tkhd') {
    content.writeUInt32BE(duration, 20)
  } else if (type === 'stts') {
    return Buffer.from(Uint32Array.of(0, 1, frames, ticksAFrame).buffer).swap32()
  }
  return content
}

/** Adds `distance` to every chunk offset: `stco` holds a version (4 bytes), a count (4) and offsets from the file's start. */
function moveChunks(moov: Buffer, distance: number): void {
  const at = moov.indexOf('stco') + 4
  const count = moov.readUInt32BE(at + 4)
  for (let entry = at + 8; entry < at + 8 + 4 * count; entry += 4)
    moov.writeUInt32BE(moov.readUInt32BE(entry) + distance, entry)
}

interface Box {
  type: string
  start: number
  bytes: Buffer
}

function split(bytes: Buffer): Box[] {
  const boxes: Box[] = []
  for (let start = 0; start + 8 <= bytes.length; ) {
    const size = bytes.readUInt32BE(start)
    if (size < 8 || start + size > bytes.length)
      throw new Error(`a box of ${size} bytes at ${start} of ${bytes.length}`)
    boxes.push({ type: typeOf(bytes, start), start, bytes: bytes.subarray(start, start + size) })
    start += size
  }
  return boxes
}

function box(type: string, content: Uint8Array): Buffer {
  const head = Buffer.alloc(8)
  head.writeUInt32BE(8 + content.length)
  head.write(type, 4, 'latin1')
  return Buffer.concat([head, content])
}

function typeOf(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at + 4, at + 8)
}
