/**
 * AWS's list prices in us-east-1, in US dollars, as they stood in June 2025. Other regions cost up to two thirds more.
 * Sources: https://aws.amazon.com/ec2/pricing/on-demand/ …/vpc/pricing/ …/ebs/pricing/ …/elasticloadbalancing/pricing/
 */
export const PRICES_OF = "June 2025, us-east-1";

/** As AWS's own calculator counts. */
export const HOURS_A_MONTH = 730;

/** An hour. */
export const INSTANCES: Readonly<Record<string, number>> = {
  "t4g.nano": 0.0042,
  "t4g.micro": 0.0084,
  "t4g.small": 0.0168,
  "t4g.medium": 0.0336,
  "t3.nano": 0.0052,
  "t3.micro": 0.0104,
  "t3.small": 0.0208,
  "t3.medium": 0.0416,
  "c7g.medium": 0.0363,
  "c7g.large": 0.0725,
  "c7gn.medium": 0.0624,
  "c7gn.large": 0.1248,
  "c7i.large": 0.0893,
};

export const HOURLY = { publicIpv4: 0.005, natGateway: 0.045, loadBalancer: 0.0225 } as const;
/** A GiB and month. */
export const GP3_GIB_MONTH = 0.08;
/** A GB. */
export const TRAFFIC = { toInternet: 0.09, throughNatGateway: 0.045 } as const;
