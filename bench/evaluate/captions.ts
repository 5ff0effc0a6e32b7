/**
 * The plainest captions of reference/training/captions.py: what a clip is asked for with.
 *
 * caption = phrase [" and " phrase]; phrase = "a" size colour kind verb
 */
import { directionOf, type Motion, type Scene } from './scenes.js'

const sizes = { small: 'small', large: 'big' }
const doing: Readonly<Partial<Record<Motion, string>>> = {
  bounce: 'bounces',
  rotate: 'rotates',
  grow: 'grows',
  shrink: 'shrinks',
  still: 'stays still',
}

const verb = (motion: Motion): string => (directionOf(motion) ? `moves ${motion}` : doing[motion]!)

/** The plainest caption, a phrase a shape in the scene's order. */
export function caption({ shapes }: Scene): string {
  return shapes
    .map(({ size, colour, shape, motion }) => `a ${sizes[size]} ${colour} ${shape} ${verb(motion)}`)
    .join(' and ')
}
