/** Prints several stories that happen at once one after another: the first one live, the others from where they are. */
export class Printer {
  readonly #write: (line: string) => void;
  readonly #stories: { readonly lines: string[]; done: boolean }[] = [];
  #live = 0;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** A new story; its lines come after those of the stories opened before. */
  open(): { readonly say: (line: string) => void; readonly end: () => void } {
    const story = { lines: [] as string[], done: false };
    this.#stories.push(story);
    return {
      say: (line) => {
        story.lines.push(line);
        this.#flush();
      },
      end: () => {
        story.done = true;
        this.#flush();
      },
    };
  }

  #flush(): void {
    for (let story = this.#stories[this.#live]; story !== undefined; story = this.#stories[++this.#live]) {
      for (const line of story.lines.splice(0)) this.#write(line);
      if (!story.done) return;
    }
  }
}
