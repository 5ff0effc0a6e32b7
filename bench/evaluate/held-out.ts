/** The clips that are scored: held-out scenes of one shape, with prompts of their own and of others. */
import { directionNames, type Scene, sceneOf } from './scenes.js'

/** Between the scenes of one `--seed` and the next. */
const stride = 1_000_000
const generationFrom = 50_000

/** For the autoencoder: any motion. */
export function reconstructionScene(seed: number, i: number): Scene {
  return sceneOf(seed * stride + i, { count: 1 })
}

/** For the pipeline: the eight directions in turn. */
export function generationScene(seed: number, i: number): Scene {
  return sceneOf(seed * stride + generationFrom + i, { motion: directionNames[i % 8], count: 1 })
}

/** The scene whose prompt a picture gets in exchange: it goes in each of the seven other directions in turn. */
export function exchangedScene(seed: number, i: number): Scene {
  const motion = directionNames[(i + 1 + (Math.floor(i / 8) % 7)) % 8]
  const other = generationFrom + ((i * 37 + 11) % 1000)
  return sceneOf(seed * stride + other, { motion, count: 1 })
}
