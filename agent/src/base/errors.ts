/** The base of every error this program throws on purpose. `code` is for programs, `message` for people. */
export abstract class SallyportError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Text, an option or configuration that a person gave us and that we can not read. The command ends with exit code 2. */
export class UsageError extends SallyportError {}

/** Text in a known form (a key, an address) that is not in that form. The caller adds which field it came from. */
export class ParseError extends SallyportError {}

/** The system or the network refused: a port in use, no permission, a server out of reach. Exit code 1. */
export class OperationError extends SallyportError {}

/** Our own invariant is broken: a bug here, never the peer's doing. */
export class InternalError extends SallyportError {}
