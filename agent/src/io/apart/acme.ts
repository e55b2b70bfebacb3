import acme from "acme-client";

export const { Client, crypto } = acme;
