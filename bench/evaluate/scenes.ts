/**
 * Scenes: what a clip of moving shapes shows, and a seeded sampler with the distribution that the model was trained on
 * (reference/training/scenes.py) but its own random numbers, so that no scene has been seen in training.
 *
 * Positions and lengths are in parts of the picture's side (x to the right, y down, the origin in the upper left corner), angles in
 * radians, colours RGB from 0 to 255. Field names are those of the Python side's JSON.
 */
import { Random } from './random.js'

export type RGB = readonly [number, number, number]
export type Point = readonly [x: number, y: number]

export const kinds = ['circle', 'square', 'triangle', 'star'] as const
export type Kind = (typeof kinds)[number]

export const colours = {
  red: [225, 40, 40],
  orange: [245, 135, 25],
  yellow: [245, 220, 50],
  green: [45, 175, 65],
  cyan: [50, 200, 215],
  blue: [45, 85, 225],
  purple: [140, 55, 190],
  pink: [240, 115, 185],
} as const satisfies Record<string, RGB>

const diagonal = Math.SQRT1_2
export const directions = {
  left: [-1, 0],
  right: [1, 0],
  up: [0, -1],
  down: [0, 1],
  'up and left': [-diagonal, -diagonal],
  'up and right': [diagonal, -diagonal],
  'down and left': [-diagonal, diagonal],
  'down and right': [diagonal, diagonal],
} as const satisfies Record<string, Point>
export type Direction = keyof typeof directions
export const directionNames = Object.keys(directions) as Direction[]

export const motions = [...directionNames, 'bounce', 'rotate', 'grow', 'shrink', 'still'] as const
export type Motion = (typeof motions)[number]

export const directionOf = (motion: Motion): Point | undefined =>
  Object.hasOwn(directions, motion) ? directions[motion as Direction] : undefined

export interface Shape {
  shape: Kind
  colour: string
  rgb: RGB
  size: 'small' | 'large'
  radius: number
  motion: Motion
  start: Point
  /** How far it goes in a direction, or how high it jumps. */
  travel: number
  angle: number
}

export interface Scene {
  /** Plain if both colours are equal. */
  background: { from: RGB; to: RGB; angle: number }
  /** Later ones are in front. */
  shapes: readonly Shape[]
  /** Width of an edge in pixels. */
  softness: number
  vignette: number
}

const radii = { small: [0.09, 0.125], large: [0.15, 0.2] } as const
/** Between a shape's circle and the picture's edge. */
const margin = 0.02
/** Of a named colour, each channel. */
const jitter = 12
/** Least sum of the channels' differences between a shape and the ground. */
const contrast = 150

/** The scene of a seed; the motion of its first shape and the number of its shapes can be given. */
export function sceneOf(seed: number, wanted: { motion?: Motion; count?: 1 | 2 } = {}): Scene {
  const random = new Random(seed)
  const count = wanted.count ?? (random.uniform() < 0.75 ? 1 : 2)
  const names = random.sample(Object.keys(colours) as (keyof typeof colours)[], count)
  const shapes: Shape[] = []
  for (const [i, colour] of names.entries()) {
    const rgb = jittered(random, colours[colour])
    const motion = (i === 0 && wanted.motion) || random.choice(motions)
    let shape = drawShape(random, colour, rgb, motion)
    while (shapes[0] && touches(shape, shapes[0])) shape = drawShape(random, colour, rgb, motion)
    shapes.push(shape)
  }
  return {
    background: drawBackground(
      random,
      shapes.map(({ rgb }) => rgb),
    ),
    shapes,
    softness: random.uniform() < 0.2 ? round(random.uniform(1, 2.5), 3) : 1,
    vignette: random.uniform() < 0.15 ? round(random.uniform(0.05, 0.3), 3) : 0,
  }
}

/** One shape whose whole path stays inside the picture. */
function drawShape(random: Random, colour: string, rgb: RGB, motion: Motion): Shape {
  const shape = random.choice(motion === 'rotate' ? kinds.slice(1) : kinds) // nobody sees a circle turn
  const size = random.uniform() < 0.5 ? 'small' : 'large'
  const radius = random.uniform(...radii[size])
  const direction = directionOf(motion)
  let travel = 0
  if (direction) travel = random.uniform(0.3, 0.5)
  else if (motion === 'bounce') travel = random.uniform(0.25, 0.4)
  const [x, y] = direction ?? [0, motion === 'bounce' ? -1 : 0]
  const room = radius * (motion === 'grow' ? 1.7 : 1) + margin
  const place = (way: number) =>
    random.uniform(room - Math.min(0, way * travel), 1 - room - Math.max(0, way * travel))
  const start: Point = [round(place(x), 4), round(place(y), 4)]
  const tilted = motion === 'rotate' || random.uniform() < 0.15
  const angle = tilted ? round(random.uniform(0, 2 * Math.PI), 4) : 0
  const rounded = { radius: round(radius, 4), travel: round(travel, 4) }
  return { shape, colour, rgb, size, motion, start, angle, ...rounded }
}

/** Whether two shapes touch in the first frame. */
function touches(a: Shape, b: Shape): boolean {
  const between = Math.hypot(a.start[0] - b.start[0], a.start[1] - b.start[1])
  return between < 1.1 * (a.radius + b.radius)
}

/** A muted ground, plain or with a linear gradient, that every shape stands out from; paper now and then. */
function drawBackground(random: Random, shapes: readonly RGB[]): Scene['background'] {
  for (;;) {
    const [first, last] = random.uniform() < 0.15 ? paper(random) : muted(random)
    const [from, to] = [first.map(byte) as unknown as RGB, last.map(byte) as unknown as RGB]
    const seen = (ground: RGB) =>
      shapes.every((rgb) => rgb.reduce((sum, v, c) => sum + Math.abs(v - ground[c]!), 0) >= contrast)
    if (seen(from) && seen(to)) return { from, to, angle: round(random.uniform(0, 2 * Math.PI), 4) }
  }
}

function paper(random: Random): [number[], number[]] {
  const level = random.uniform(235, 255)
  const first = channels(() => level + random.uniform(-5, 5))
  const step = random.uniform(-12, 12) * Number(random.uniform() < 0.5)
  return [first, first.map((v) => v + step)]
}

function muted(random: Random): [number[], number[]] {
  const vivid = channels(() => random.uniform(15, 240))
  const mean = vivid.reduce((sum, v) => sum + v, 0) / 3
  const first = vivid.map((v) => mean + 0.4 * (v - mean))
  const steps = channels(() => random.uniform(-50, 50))
  const graded = Number(random.uniform() < 0.5)
  return [first, first.map((v, c) => v + steps[c]! * graded)]
}

const channels = (draw: () => number): number[] => Array.from({ length: 3 }, draw)

const jittered = (random: Random, rgb: RGB): RGB =>
  rgb.map((v) => byte(v + random.integer(-jitter, jitter + 1))) as unknown as RGB

const byte = (value: number): number => Math.round(Math.min(255, Math.max(0, value)))

const round = (value: number, digits: number): number => Number(value.toFixed(digits))
