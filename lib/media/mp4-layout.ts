/**
 * Puts the last touch to an MP4 of the WebAssembly encoder, which writes its index (`moov`) at the end and says
 * nothing about colour: the index goes to the front, so that a player can begin before it has the whole file, and a
 * `colr` box says BT.709, so that no player guesses. Boxes as in ISO/IEC 14496-12: size (4 bytes), type (4), content.
 */

/** Colour primaries, transfer and matrix 1 = BT.709, limited range (ISO/IEC 14496-12 §12.1.5). */
const bt709 = box('colr', Buffer.concat([Buffer.from('nclx'), Buffer.from([0, 1, 0, 1, 0, 1, 0])]))

/** Bytes of a VisualSampleEntry (`avc1`) before its first inner box, and of `stsd` before its first entry. */
const innerBoxesAt: Record<string, number> = { avc1: 78, stsd: 8 }
const onTheWayToColour = ['moov', 'trak', 'mdia', 'minf', 'stbl', 'stsd', 'avc1']

/** The same video with `moov` before `mdat` and the colour named. Expects one H.264 track with 32-bit offsets. */
export function layOutMp4(file: Uint8Array): Uint8Array {
  const boxes = split(Buffer.from(file.buffer, file.byteOffset, file.byteLength))
  const named = (type: string) => boxes.filter((entry) => entry.type === type).map((entry) => entry.bytes)
  const [ftyp, moov, mdat] = [...named('ftyp'), ...named('moov'), ...named('mdat')]
  if (!ftyp || !moov || !mdat)
    throw new Error(`not an MP4 file: boxes ${boxes.map(({ type }) => type).join(', ')}`)
  const oldData = boxes.find(({ type }) => type === 'mdat')!.start
  const index = addColour(moov)
  moveChunks(index, ftyp.length + index.length - oldData)
  return Buffer.concat([ftyp, index, mdat])
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

/** A copy of the box with `colr` as the last child of `avc1`, and every size on the way corrected. */
function addColour(bytes: Buffer): Buffer {
  const type = typeOf(bytes, 0)
  if (!onTheWayToColour.includes(type)) return bytes
  const innerAt = 8 + (innerBoxesAt[type] ?? 0)
  const inner = split(bytes.subarray(innerAt)).map((child) => addColour(child.bytes))
  if (type === 'avc1') inner.push(bt709)
  return box(type, Buffer.concat([bytes.subarray(8, innerAt), ...inner]))
}

/** Adds `distance` to every chunk offset: `stco` holds a version (4 bytes), a count (4) and offsets from the file's start. */
function moveChunks(moov: Buffer, distance: number): void {
  const at = moov.indexOf('stco') + 4
  const count = moov.readUInt32BE(at + 4)
  for (let entry = at + 8; entry < at + 8 + 4 * count; entry += 4)
    moov.writeUInt32BE(moov.readUInt32BE(entry) + distance, entry)
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
