"""Runs moto's server with the gaps closed that would stop the real provider. Each is named with what it is for.

usage: moto_patched.py PORT
"""

import sys

from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.subnets import Subnet
from moto.server import main


def ipv6_cidr_block_association_set(self):
    """DescribeSubnets wraps the state twice, so the provider waits for ever for "associated"."""
    return [
        {
            "ipv6CidrBlock": association["ipv6CidrBlock"],
            "associationId": association["associationId"],
            "ipv6CidrBlockState": association["ipv6CidrBlockState"],
        }
        for association in self.ipv6_cidr_block_associations.values()
        if association["ipv6CidrBlockState"]["State"] == "associated"
    ]


def get_filter_value(self, filter_name, method_name=None):
    """DescribeSubnets lacks the filter by which the provider asks for an IPv6 range."""
    if filter_name == "ipv6-cidr-block-association.association-id":
        return list(self.ipv6_cidr_block_associations)
    return known_filters(self, filter_name, method_name)


def association(self):
    """An interface without a public address has no association; an empty one means to the provider that it has one."""
    return known_association(self) or None


known_filters = Subnet.get_filter_value
known_association = NetworkInterface.association.fget
NetworkInterface.association = property(association)
Subnet.get_filter_value = get_filter_value
Subnet.ipv6_cidr_block_association_set = property(ipv6_cidr_block_association_set)

if __name__ == "__main__":
    main(["--host", "127.0.0.1", "--port", sys.argv[1]])
