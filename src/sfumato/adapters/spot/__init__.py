"""Notices of spot machines, from the metadata server of the cloud that they run in."""

from sfumato.adapters.spot.aws import AwsSpot
from sfumato.adapters.spot.azure import AzureSpot
from sfumato.adapters.spot.gcp import GcpSpot
from sfumato.adapters.spot.watching import Metadata, MetadataSpotNotices

__all__ = ["AwsSpot", "AzureSpot", "GcpSpot", "Metadata", "MetadataSpotNotices"]
