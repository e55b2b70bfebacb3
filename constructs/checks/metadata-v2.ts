import { type Check, machines, object } from "./check.ts";

/** Version 1 of the metadata service answers whoever makes the machine send a request; version 2 wants a token. */
export const METADATA_V2: Check = {
  id: "metadata-v2",
  find: (resources) =>
    machines(resources)
      .filter(({ attributes }) => {
        const options = object(attributes["metadata_options"]);
        return options["http_tokens"] !== "required" || options["http_put_response_hop_limit"] !== 1;
      })
      .map(
        ({ address }) =>
          `${address} takes metadata requests without a token or from afar: set metadataOptions to { httpTokens: "required", httpPutResponseHopLimit: 1 }`,
      ),
};
