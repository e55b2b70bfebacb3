type Given<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Optional props are left out rather than passed as undefined. */
export function given<T extends object>(props: T): Given<T> {
  return Object.fromEntries(Object.entries(props).filter(([, value]) => value !== undefined)) as Given<T>;
}
